//! Components that serve HTTP.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Body};
use odeum_proto::http::{
    BODY_BYTES, HEAD_BYTES, HttpAnswer, HttpRequest, OF_CONNECTION, SMALL_BODY_BYTES,
};
use tokio::sync::{Semaphore, oneshot};
use wasmtime::{
    Store,
    component::{Component, Linker},
};
use wasmtime_wasi_http::{
    Error, WasiHttpView as _,
    p2::{
        bindings::{
            ProxyPre,
            http::types::{ErrorCode, Scheme},
        },
        body::HyperOutgoingBody,
    },
};

use super::{Part, part};
use crate::firmware::{
    abi::wasi_p1::waiting,
    error::{GuestFailure, GuestLimit},
    setting::Setting,
    store,
};
use crate::package::manifest::Manifest;

/// A component that serves requests. Cheap to clone.
#[derive(Clone)]
pub(in crate::firmware) struct HttpService {
    pre: ProxyPre<Part>,
    /// Places for answers that are not small.
    places: Arc<Semaphore>,
}

/// Answers of one server with bodies that are not small that are gathered at once. Others wait.
const LARGE: usize = 4;

impl HttpService {
    pub(in crate::firmware) fn new(
        linker: &Linker<Part>,
        component: &Component,
    ) -> wasmtime::Result<Self> {
        let places = Arc::new(Semaphore::new(LARGE));
        Ok(Self { pre: ProxyPre::new(linker.instantiate_pre(component)?)?, places })
    }

    pub(in crate::firmware) fn component(&self) -> &Component {
        self.pre.instance_pre().component()
    }

    /// Has a new instance answer one request, within `time` of computing and ten times that of
    /// waiting.
    ///
    /// # Errors
    /// [`GuestFailure`] when there is no answer.
    pub(in crate::firmware) async fn serve(
        &self,
        manifest: &Manifest,
        setting: &Setting,
        request: HttpRequest,
    ) -> Result<HttpAnswer, GuestFailure> {
        let time = setting.limits.message_time;
        let mut store = store::bounded(self.pre.engine(), part(manifest, setting).await?);
        store::wind(&mut store, Some(time));
        waiting(time, self.answered(store, request)).await
    }

    async fn answered(
        &self,
        mut store: Store<Part>,
        request: HttpRequest,
    ) -> Result<HttpAnswer, GuestFailure> {
        let (sender, answer) = oneshot::channel();
        // The guest's end drops its store, and with it what it did not send.
        let called = async move {
            let called = async {
                let request = incoming(request)?;
                let request =
                    store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
                let out = store.data_mut().http().new_response_outparam(sender)?;
                let proxy = self.pre.instantiate_async(&mut store).await?;
                proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
            };
            let called = called.await;
            called.map_err(|error| store::failure(&mut store, &error))
        };
        // The guest writes the body while it is read here.
        let (called, answer) = tokio::join!(called, collected(answer, &self.places));
        called.and(answer)
    }
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService").finish_non_exhaustive()
    }
}

fn incoming(
    request: HttpRequest,
) -> wasmtime::Result<Request<impl Body<Data = Bytes, Error = Error> + Send + 'static>> {
    let HttpRequest { method, authority, path, headers, body } = request;
    let uri = format!("http://{authority}{path}");
    let mut builder = Request::builder().method(method.as_str()).uri(uri);
    builder = builder.header("host", authority);
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    Ok(builder.body(Full::new(Bytes::from(body)).map_err(|never| match never {}))?)
}

/// The whole answer, within its bounds.
async fn collected(
    answer: oneshot::Receiver<Result<Response<HyperOutgoingBody>, ErrorCode>>,
    places: &Semaphore,
) -> Result<HttpAnswer, GuestFailure> {
    let failed =
        |reason: String| GuestFailure::Trapped { reason: reason.into(), frames: Vec::new() };
    let answer = match answer.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(code)) => return Err(failed(format!("it answered with the error {code:?}"))),
        Err(_) => return Err(failed("it ended without an answer".to_owned())),
    };
    let (head, body) = answer.into_parts();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        let is_kept = !OF_CONNECTION.contains(&name.as_str());
        is_kept.then(|| (name.as_str().to_owned(), value.as_bytes().to_vec()))
    };
    let headers: Vec<(String, Vec<u8>)> = head.headers.iter().filter_map(header).collect();
    let got: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    if got > HEAD_BYTES {
        return Err(GuestLimit::Reply { got, allowed: HEAD_BYTES }.into());
    }
    let body = gathered(body, places).await?;
    Ok(HttpAnswer { status: head.status.as_u16(), headers, body })
}

/// A whole body. What is not small waits for a place before it is gathered, and the guest with it.
async fn gathered(
    mut body: HyperOutgoingBody,
    places: &Semaphore,
) -> Result<Vec<u8>, GuestFailure> {
    let failed = |reason: String| GuestFailure::Trapped {
        reason: format!("its answer broke off: {reason}").into(),
        frames: Vec::new(),
    };
    let (mut bytes, mut place) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(error.to_string()))?;
        let Ok(piece) = frame.into_data() else { continue };
        let got = bytes.len() + piece.len();
        if got > BODY_BYTES {
            return Err(GuestLimit::Reply { got: BODY_BYTES + 1, allowed: BODY_BYTES }.into());
        }
        if place.is_none() && got > SMALL_BODY_BYTES {
            place = Some(places.acquire().await.map_err(|error| failed(error.to_string()))?);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
