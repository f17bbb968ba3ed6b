//! Our nodes against quinn with nothing above it but what any program would write: frames in
//! bincode, many written with one call; one stream for messages and one of low priority for each
//! large transfer; the transport's own numbers for windows and buffers; mutual TLS.
//!
//! It promises nothing that an entity promises: no names, no order across streams, no deadlines,
//! no answer when the other side is gone, no actor between the stream and the counter.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, VarInt};
use socket2::SockRef;

use crate::remote::process::Side;
use crate::remote::{self, DRIVE, Effort, HOLD, Party, Targets, driver, tls};
use crate::report::{Report, Target};

mod lane;

use self::lane::Lane;

/// What the two sides say in the handshake that they speak.
const ALPN: &[u8] = b"bare-quinn";

/// Runs all rows.
///
/// # Errors
/// If a side cannot be started or fails in the middle.
pub async fn run(effort: Effort) -> anyhow::Result<Report> {
    let targets = Targets {
        tell: Target::AtLeast(0.75),
        ask_time: Target::AtMost(1.3),
        bulk: Target::AtLeast(0.9),
        ..Targets::default()
    };
    remote::compare("bare quinn", Party::Rust(Side::BareQuinn), targets, effort).await
}

/// The process with the counter.
pub(crate) async fn hold(stage: &Path) -> anyhow::Result<()> {
    let tls = tls::server(stage, HOLD, ALPN)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.migration(false).transport_config(Arc::new(settings()?));
    let endpoint = endpoint(Some(config))?;
    let at = endpoint.local_addr()?;
    let serving = async {
        let incoming = endpoint.accept().await.context("the endpoint is closed")?;
        let connection: Connection = incoming.await?;
        lane::serve(connection).await
    };
    tokio::select! {
        ended = driver::hold(at) => ended,
        failed = serving => failed,
    }
}

/// The process that drives it.
pub(crate) async fn drive(stage: &Path, at: &str) -> anyhow::Result<()> {
    let tls = tls::client(stage, DRIVE, ALPN)?;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(settings()?));
    let endpoint = endpoint(None)?;
    let connection = endpoint.connect_with(config, at.parse()?, tls::NAME)?.await?;
    driver::drive(Lane::open(connection).await?).await
}

fn endpoint(config: Option<quinn::ServerConfig>) -> anyhow::Result<Endpoint> {
    const UDP_BUFFER: usize = 8 << 20;
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let options = SockRef::from(&socket);
    options.set_recv_buffer_size(UDP_BUFFER)?;
    options.set_send_buffer_size(UDP_BUFFER)?;
    Ok(Endpoint::new(EndpointConfig::default(), config, socket, Arc::new(TokioRuntime))?)
}

/// As in `cluster/src/transport/settings.rs`, so that what is compared is what stands on QUIC and
/// not how QUIC is set.
fn settings() -> anyhow::Result<quinn::TransportConfig> {
    const STREAM_WINDOW: u32 = 1 << 20;
    let mut config = quinn::TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(Duration::from_secs(10))?))
        .keep_alive_interval(Some(Duration::from_millis(500)))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(20 * STREAM_WINDOW))
        .send_window(16 << 20);
    Ok(config)
}
