//! TLS on the way to a broker: a socket in a folder that only this user can enter, to which the MQTT
//! client connects, and for each connection one to the broker by TLS.
//!
//! The client could do TLS itself, by older versions of what the rest of the node does it with; two of
//! them would have to be kept safe.

use std::{io, path::PathBuf};

use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixListener, UnixStream},
    task::JoinSet,
    time::timeout,
};

use super::CONNECT;
use crate::{config::Broker, tls::Client};

/// The node's end of it.
pub(super) struct Relay {
    listener: UnixListener,
    /// Removed with it.
    _folder: TempDir,
    path: PathBuf,
    broker: Broker,
    client: Client,
}

impl Relay {
    /// One that is to be [run](Self::run).
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn open(broker: Broker, client: Client) -> io::Result<Self> {
        // Others cannot enter it.
        let folder = tempfile::Builder::new().prefix("odeum-mqtt-").tempdir()?;
        let path = folder.path().join("broker");
        let listener = UnixListener::bind(&path)?;
        Ok(Self { listener, _folder: folder, path, broker, client })
    }

    /// Where the client connects to.
    pub(super) fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Never ends.
    pub(super) async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // The client sees the end of its own side, and says so.
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((near, _)) => {
                        let (broker, client) = (self.broker.clone(), self.client.clone());
                        connections.spawn(async move {
                            if let Err(error) = relayed(near, &broker, &client).await {
                                tracing::warn!(%broker, %error, "mqtt broker not reached by TLS");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "mqtt relay cannot accept");
                        tokio::time::sleep(super::PAUSES.0).await;
                    }
                },
            }
        }
    }
}

async fn relayed(mut near: UnixStream, broker: &Broker, client: &Client) -> io::Result<()> {
    let connected = timeout(CONNECT, async {
        let far = TcpStream::connect((broker.host(), broker.port())).await?;
        far.set_nodelay(true)?;
        client.connect(broker.host(), far).await
    });
    let mut far = connected.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // How it ends is seen by the client: MQTT has words for that.
    let _ = copy_bidirectional(&mut near, &mut far).await;
    Ok(())
}
