//! Requests that a component sends out, by HTTP and HTTPS, to whom its manifest names.
//!
//! Who a server is by HTTPS is for the authorities to say that the machine of the node and its settings
//! trust (`packages.ca-file`); a guest cannot do without.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{
    Request, Response, Uri,
    client::conn::http1,
    http::uri::{PathAndQuery, Scheme},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::{
    firmware::{denied::Denials, setting::Setting},
    package::manifest::{HostPattern, Manifest},
    tls::{Authorities, Fault},
};

/// How long to wait where the guest does not say. The time of the message ends earlier.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What drives a connection while its answer is read.
type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// What bytes go by, with or without TLS.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Lets requests out to whom the manifest names.
pub(super) struct Gate {
    allowed: Vec<HostPattern>,
    authorities: Authorities,
    denials: Arc<Denials>,
}

/// Where a request goes to.
struct Target {
    host: String,
    port: u16,
    /// By whom a server by HTTPS is to be known.
    authorities: Option<Authorities>,
    denials: Arc<Denials>,
}

impl Gate {
    pub(super) fn new(manifest: &Manifest, setting: &Setting, denials: Arc<Denials>) -> Self {
        let allowed = manifest.capabilities.http.clone();
        Self { allowed, authorities: setting.grants.authorities.clone(), denials }
    }

    /// Where to connect to, if that is allowed.
    fn target(&self, uri: &Uri) -> Result<Target, Error> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if !self.allowed.iter().any(|pattern| pattern.allows(bare, port)) {
            self.denials.capability(host, &format!("http = [\"{host}:{port}\"]"));
            return Err(Error::HttpRequestDenied);
        }
        let authorities = is_https.then(|| self.authorities.clone());
        Ok(Target { host: bare.to_owned(), port, authorities, denials: Arc::clone(&self.denials) })
    }
}

impl WasiHttpHooks for Gate {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Driver,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Driver), Error>> + Send> {
        let target = self.target(request.uri());
        Box::new(async move { target?.send(request, options.unwrap_or_default()).await })
    }
}

impl Target {
    async fn send(
        self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<(Response<WasiBody>, Driver), Error> {
        let connecting = options.connect_timeout.unwrap_or(TIMEOUT);
        let connected = timeout(connecting, self.connected()).await;
        exchange(connected.map_err(|_| Error::ConnectionTimeout)??, request, options).await
    }

    async fn connected(&self) -> Result<Box<dyn Connection>, Error> {
        let address = (self.host.as_str(), self.port);
        let stream = TcpStream::connect(address).await.map_err(Error::Connect)?;
        match &self.authorities {
            None => Ok(Box::new(stream)),
            Some(authorities) => Ok(Box::new(self.secured(authorities, stream).await?)),
        }
    }

    /// TLS over the connection. What is wrong is told in whole to whoever runs the node, and to the
    /// guest what it has a word for.
    async fn secured(
        &self,
        authorities: &Authorities,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let client = authorities.client().await.map_err(|error| {
            self.denials.untrusted(&self.host, &error);
            Error::TlsProtocolError
        })?;
        client.connect(&self.host, stream).await.map_err(|error| {
            self.denials.untrusted(&self.host, &error);
            match Fault::of(&error) {
                Fault::Certificate => Error::TlsCertificateError,
                Fault::Refused(alert) => {
                    Error::TlsAlertReceived { alert_id: Some(alert), alert_message: None }
                }
                Fault::Protocol => Error::TlsProtocolError,
            }
        })
    }
}

/// Sends a request over a connection of its own, and waits for the head of the answer.
async fn exchange(
    stream: Box<dyn Connection>,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<(Response<WasiBody>, Driver), Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Only a proxy is told scheme and host.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    let mut connection = Box::pin(async move { connection.await.map_err(Error::from) });
    let waiting = options.first_byte_timeout.unwrap_or(TIMEOUT);
    let answered = async {
        let mut answer = std::pin::pin!(sender.send_request(request));
        tokio::select! {
            answer = answer.as_mut() => (answer, false),
            // It may end with the answer already there.
            _ = connection.as_mut() => (answer.await, true),
        }
    };
    let (answer, has_ended) =
        timeout(waiting, answered).await.map_err(|_| Error::ConnectionReadTimeout)?;
    let answer = answer?.map(|body| body.map_err(Error::from).boxed_unsync());
    let driver: Driver =
        if has_ended { Box::new(std::future::ready(Ok(()))) } else { Box::new(connection) };
    Ok((answer, driver))
}
