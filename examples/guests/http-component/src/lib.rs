//! A server of HTTP as a component of WASI 0.2.
//!
//! | path | |
//! |---|---|
//! | `/echo` | the body of the request |
//! | `/pipe` | the body of the request, while it is still read |
//! | `/count` | how many bytes the body of the request has |
//! | `/large?N` | N bytes |
//! | `/get?AUTHORITY` | what `http://AUTHORITY/` answers, or why it does not |
//! | `/get?https://AUTHORITY` | the same by HTTPS |
//! | `/trap`, `/spin`, `/silent` | traps, never ends, ends without an answer |
//! | else | the method and path, with the status 404 |

use std::io::{Read, Write};

use wasi::{
    exports::http::incoming_handler::Guest,
    http::{
        outgoing_handler,
        types::{
            Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest,
            OutgoingResponse, ResponseOutparam, Scheme,
        },
    },
};

struct Server;

wasi::http::proxy::export!(Server);

impl Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/echo" => {
                let body = request.consume().map(read).unwrap_or_default();
                answer(out, 200, &body);
            }
            "/pipe" => pipe(request, out),
            "/count" => {
                let counted = request.consume().map(count).unwrap_or_default();
                answer(out, 200, counted.to_string().as_bytes());
            }
            "/large" => large(out, query.parse().unwrap_or(0)),
            "/get" => match get(query) {
                Ok(body) => answer(out, 200, &body),
                Err(error) => answer(out, 502, error.as_bytes()),
            },
            "/trap" => panic!("as told"),
            "/spin" => loop {
                std::hint::black_box(0);
            },
            "/silent" => {}
            path => {
                let text = format!("{} {path}\n", method(&request.method()));
                answer(out, 404, text.as_bytes());
            }
        }
    }
}

fn method(method: &Method) -> String {
    match method {
        Method::Get => "GET".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        other => format!("{other:?}"),
    }
}

fn read(body: IncomingBody) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut stream) = body.stream() {
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
}

/// Reads to the end, a piece at a time.
fn count(body: IncomingBody) -> usize {
    let mut counted = 0;
    if let Ok(stream) = body.stream() {
        while let Ok(piece) = stream.blocking_read(PIECE as u64) {
            counted += piece.len();
        }
    }
    counted
}

/// Bytes that are read or written at once.
const PIECE: usize = 64 << 10;

/// Answers with what `write` writes.
fn answer_by(out: ResponseOutparam, status: u16, write: impl FnOnce(&mut dyn Write)) {
    let headers = Fields::new();
    let _ = headers.append("served-by", b"http-component");
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let Ok(outgoing) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(mut stream) = outgoing.write() {
        write(&mut stream);
    }
    let _ = OutgoingBody::finish(outgoing, None);
}

fn answer(out: ResponseOutparam, status: u16, body: &[u8]) {
    answer_by(out, status, |to| drop(to.write_all(body)));
}

fn large(out: ResponseOutparam, bytes: usize) {
    let piece = vec![b'x'; PIECE];
    answer_by(out, 200, |to| {
        let mut left = bytes;
        while left > 0 {
            let now = left.min(PIECE);
            if to.write_all(&piece[..now]).is_err() {
                return;
            }
            left -= now;
        }
    });
}

fn pipe(request: IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().ok();
    let stream = body.as_ref().and_then(|body| body.stream().ok());
    answer_by(out, 200, |to| {
        let Some(from) = stream else { return };
        while let Ok(piece) = from.blocking_read(PIECE as u64) {
            if to.write_all(&piece).is_err() {
                return;
            }
        }
    });
}

fn get(target: &str) -> Result<Vec<u8>, String> {
    let request = OutgoingRequest::new(Fields::new());
    let (scheme, authority) = match target.strip_prefix("https://") {
        Some(authority) => (Scheme::Https, authority),
        None => (Scheme::Http, target),
    };
    let set = request
        .set_scheme(Some(&scheme))
        .and(request.set_authority(Some(authority)))
        .and(request.set_path_with_query(Some("/")));
    set.map_err(|()| "no such address".to_owned())?;
    let future = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    future.subscribe().block();
    let response = future.get().ok_or("no answer")?.map_err(|()| "taken")?;
    let response = response.map_err(|code| format!("{code:?}"))?;
    Ok(response.consume().map(read).unwrap_or_default())
}
