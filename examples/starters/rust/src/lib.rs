//! Counts: `add N` adds to the count of the session and replies it, `get` replies it.
//!
//! The contract is in `wit/odeum-actor.wit`: what a guest may ask of its host, and what it has.

wit_bindgen::generate!({ path: "wit/odeum-actor.wit", world: "actor" });

use exports::odeum::actor::guest::{Guest, Message};
use odeum::actor::host::{self, Level};

struct Actor;

export!(Actor);

impl Guest for Actor {
    fn on_start() -> Result<(), String> {
        host::log(Level::Info, "started");
        Ok(())
    }

    /// What it sets is kept, and the caller gets the reply, when this returns `Ok`; after an `Err`
    /// nothing of it is.
    fn on_message(message: Message) -> Result<(), String> {
        let Message::Call(body) = message else { return Ok(()) };
        let text = String::from_utf8(body).map_err(|_| "expected text")?;
        let mut count = count()?;
        match text.split_once(' ') {
            Some(("add", number)) => {
                let number: i64 = number.trim().parse().map_err(|_| "expected `add N`")?;
                count = count.checked_add(number).ok_or("the count is full")?;
                set(count)?;
            }
            None if text == "get" => {}
            _ => return Err("expected `add N` or `get`".to_owned()),
        }
        host::reply(count.to_string().as_bytes());
        Ok(())
    }

    fn on_timer(_timer: u64) -> Result<(), String> {
        Ok(())
    }

    fn on_stop() {}
}

/// The count of the session that the message is about.
fn count() -> Result<i64, String> {
    let value = host::get_variable("count").map_err(|why| format!("{why:?}"))?;
    let text = value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn set(count: i64) -> Result<(), String> {
    host::set_variable("count", count.to_string().as_bytes()).map_err(|why| format!("{why:?}"))
}
