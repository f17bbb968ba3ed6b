//! What a guest asks of its host.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use odeum_proto::{Recipient, limits};
use rand::TryRng as _;

use super::{
    ASKS, Acting, DEEDS, TIMERS, TOPICS,
    bindings::odeum::actor::host::{Host, Level, Refusal},
};
use crate::firmware::{
    abi::core::{Message, key_text},
    deeds::{Deed, LONGEST_ASK},
    effect::{self, emit},
    error::GuestLimit,
    store::Stop,
};

/// Most random bytes at once.
const RANDOM_BYTES: u32 = 64 << 10;

type Refusable<T> = wasmtime::Result<Result<T, Refusal>>;

impl Acting {
    fn message(&mut self, import: &'static str) -> Result<&mut Message, Stop> {
        self.message.as_mut().ok_or(Stop::NoMessage { import })
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Keeps a deed aside; whether there is room for it.
    fn put(&mut self, deed: Deed, bytes: usize) -> bool {
        let sent = self.sent.saturating_add(bytes as u64);
        if self.deeds.len() >= DEEDS || sent > self.output {
            return false;
        }
        self.sent = sent;
        self.deeds.push(deed);
        true
    }

    fn denied(&self, what: &str, line: &str) -> Refusal {
        self.meter.denials.capability(what, line);
        Refusal::Denied
    }

    /// The firmware of that name, or the replica of it, if messages may be sent to it.
    fn addressee(&self, to: &str) -> Result<Recipient, Refusal> {
        let to: Recipient = to.parse().map_err(|_| Refusal::NotAName)?;
        let name = to.firmware();
        if self.granted.messages.iter().any(|pattern| pattern.allows(name)) {
            return Ok(to);
        }
        Err(self.denied(&format!("a message to {name}"), &format!("messages = [\"{name}\"]")))
    }
}

fn room(fits: bool) -> Result<(), Refusal> {
    if fits { Ok(()) } else { Err(Refusal::TooMuch) }
}

impl Host for Acting {
    fn firmware(&mut self) -> wasmtime::Result<String> {
        Ok(Acting::firmware(self).to_string())
    }

    fn config(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.config.get(&key).cloned())
    }

    fn get_variable(&mut self, name: String) -> Refusable<Option<Vec<u8>>> {
        let message = self.message("get-variable")?;
        let Some(key) = key_text(name.as_bytes()) else { return Ok(Err(Refusal::NotAName)) };
        Ok(Ok(match message.buffer.written(key) {
            Some(written) => written.map(<[u8]>::to_vec),
            None => message.variables.get(key),
        }))
    }

    fn set_variable(&mut self, name: String, value: Vec<u8>) -> Refusable<()> {
        let message = self.message("set-variable")?;
        let Some(key) = key_text(name.as_bytes()) else { return Ok(Err(Refusal::NotAName)) };
        message.buffer.set(key, &value).map_err(Stop::from)?;
        Ok(Ok(()))
    }

    fn delete_variable(&mut self, name: String) -> Refusable<bool> {
        let message = self.message("delete-variable")?;
        let Some(key) = key_text(name.as_bytes()) else { return Ok(Err(Refusal::NotAName)) };
        let is_there = match message.buffer.written(key) {
            Some(written) => written.is_some(),
            None => message.variables.get(key).is_some(),
        };
        if is_there {
            message.buffer.delete(key).map_err(Stop::from)?;
        }
        Ok(Ok(is_there))
    }

    fn reply(&mut self, body: Vec<u8>) -> wasmtime::Result<()> {
        let allowed = self.output;
        let message = self.message("reply")?;
        let got = body.len();
        if got as u64 > allowed {
            let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
            return Err(Stop::from(GuestLimit::Reply { got, allowed }).into());
        }
        message.buffer.reply(&body).map_err(Stop::from)?;
        Ok(())
    }

    fn tell(&mut self, to: String, body: Vec<u8>) -> Refusable<()> {
        self.message("tell")?;
        let to = match self.addressee(&to) {
            Ok(to) => to,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let bytes = body.len();
        if bytes > limits::MESSAGE_BYTES {
            return Ok(Err(Refusal::TooMuch));
        }
        Ok(room(self.put(Deed::Tell { to, body }, bytes)))
    }

    fn ask(&mut self, to: String, body: Vec<u8>, deadline_ms: u32) -> Refusable<u64> {
        self.message("ask")?;
        let to = match self.addressee(&to) {
            Ok(to) => to,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let bytes = body.len();
        if bytes > limits::MESSAGE_BYTES || self.standing.asks.len() >= ASKS {
            return Ok(Err(Refusal::TooMuch));
        }
        let number = self.number();
        let deadline = Duration::from_millis(deadline_ms.into()).min(LONGEST_ASK);
        if !self.put(Deed::Ask { number, to, body, deadline }, bytes) {
            return Ok(Err(Refusal::TooMuch));
        }
        self.standing.asks.insert(number);
        Ok(Ok(number))
    }

    fn set_timer(&mut self, after_ms: u64) -> Refusable<u64> {
        self.message("set-timer")?;
        let number = self.number();
        let after = Duration::from_millis(after_ms);
        let is_full = self.standing.timers.len() >= TIMERS;
        if is_full || !self.put(Deed::SetTimer { number, after }, 0) {
            return Ok(Err(Refusal::TooMuch));
        }
        self.standing.timers.insert(number);
        Ok(Ok(number))
    }

    fn cancel_timer(&mut self, timer: u64) -> wasmtime::Result<bool> {
        self.message("cancel-timer")?;
        let is_set = self.standing.timers.remove(&timer);
        if is_set {
            // One that this message set is not set at all; there is always room for taking back.
            let set =
                |deed: &Deed| matches!(deed, Deed::SetTimer { number, .. } if *number == timer);
            match self.deeds.iter().position(set) {
                Some(at) => drop(self.deeds.remove(at)),
                None => self.deeds.push(Deed::CancelTimer { number: timer }),
            }
        }
        Ok(is_set)
    }

    fn random_bytes(&mut self, len: u32) -> Refusable<Vec<u8>> {
        if !self.granted.random {
            return Ok(Err(self.denied("random-bytes", "random = true")));
        }
        if len > RANDOM_BYTES {
            return Ok(Err(Refusal::TooMuch));
        }
        let mut bytes = vec![0; len as usize];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes)?;
        Ok(Ok(bytes))
    }

    fn now(&mut self) -> Refusable<u64> {
        if !self.granted.clock {
            return Ok(Err(self.denied("now", "clock = true")));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }

    fn log(&mut self, level: Level, text: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Error => effect::Level::Error,
            Level::Warn => effect::Level::Warn,
            Level::Info => effect::Level::Info,
            Level::Debug => effect::Level::Debug,
            Level::Trace => effect::Level::Trace,
        };
        match &mut self.message {
            Some(message) => {
                message.buffer.log(&self.meter.log, level, text.as_bytes());
            }
            None => emit(&self.meter.log, level, text.as_bytes()),
        }
        Ok(())
    }

    fn publish(&mut self, topic: String, payload: Vec<u8>) -> Refusable<()> {
        self.message("publish")?;
        if !self.granted.publish.iter().any(|pattern| pattern.allows(&topic)) {
            return Ok(Err(self.denied(&topic, &format!("publish = [{topic:?}]"))));
        }
        let bytes = payload.len();
        Ok(room(self.put(Deed::Publish { topic, payload }, bytes)))
    }

    fn subscribe(&mut self, topic: String) -> Refusable<()> {
        self.message("subscribe")?;
        if !self.granted.subscribe.iter().any(|pattern| pattern.allows(&topic)) {
            return Ok(Err(self.denied(&topic, &format!("subscribe = [{topic:?}]"))));
        }
        if self.standing.topics.contains(&topic) {
            return Ok(Ok(()));
        }
        let is_full = self.standing.topics.len() >= TOPICS;
        if is_full || !self.put(Deed::Subscribe { topic: topic.clone() }, 0) {
            return Ok(Err(Refusal::TooMuch));
        }
        self.standing.topics.insert(topic);
        Ok(Ok(()))
    }
}
