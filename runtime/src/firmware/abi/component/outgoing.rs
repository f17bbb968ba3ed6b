//! Requests that a component sends out, to whom its manifest names.
//!
//! Not done, and why: HTTPS. It needs roots of trust that the operator of a node has a say in; until
//! there is a setting for them, such a request is refused with an error that says so.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{
    Request, Response, Uri,
    client::conn::http1,
    http::uri::{PathAndQuery, Scheme},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::{
    firmware::denied::Denials,
    package::manifest::{HostPattern, Manifest},
};

/// How long to wait where the guest does not say. The time of the message ends earlier.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What drives a connection while its answer is read.
type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Lets requests out to whom the manifest names.
pub(super) struct Gate {
    allowed: Vec<HostPattern>,
    denials: Arc<Denials>,
}

impl Gate {
    pub(super) fn new(manifest: &Manifest, denials: Arc<Denials>) -> Self {
        Self { allowed: manifest.capabilities.http.clone(), denials }
    }

    /// Where to connect to, if that is allowed.
    fn address(&self, uri: &Uri) -> Result<(String, u16), Error> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if !self.allowed.iter().any(|pattern| pattern.allows(bare, port)) {
            self.denials.capability(host, &format!("http = [\"{host}:{port}\"]"));
            return Err(Error::HttpRequestDenied);
        }
        if is_https {
            let reason = "HTTPS to the outside is not offered by this host".to_owned();
            return Err(Error::InternalError(Some(reason)));
        }
        Ok((bare.to_owned(), port))
    }
}

impl WasiHttpHooks for Gate {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Driver,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Driver), Error>> + Send> {
        let address = self.address(request.uri());
        Box::new(async move { send(address?, request, options.unwrap_or_default()).await })
    }
}

async fn send(
    address: (String, u16),
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<(Response<WasiBody>, Driver), Error> {
    let connecting = options.connect_timeout.unwrap_or(TIMEOUT);
    let connected = timeout(connecting, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| Error::ConnectionTimeout)?.map_err(Error::Connect)?;
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
