//! What a guest asks of its host.

use super::{
    Acting,
    bindings::odeum::actor::host::{Host, Level, Refusal},
};
use crate::firmware::{
    abi::{
        core::{Message, key_text},
        dealings::Refused,
    },
    effect::{self, emit},
    error::GuestLimit,
    store::Stop,
};

type Refusable<T> = wasmtime::Result<Result<T, Refusal>>;

impl Acting {
    fn message(&mut self, import: &'static str) -> Result<&mut Message, Stop> {
        self.message.as_mut().ok_or(Stop::NoMessage { import })
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotAName => Self::NotAName,
            Refused::TooMuch => Self::TooMuch,
            Refused::Denied => Self::Denied,
        }
    }
}

impl Host for Acting {
    fn firmware(&mut self) -> wasmtime::Result<String> {
        Ok(Acting::firmware(self).to_string())
    }

    fn config(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.dealings.config(&key).map(str::to_owned))
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
        Ok(self.dealings.tell(&to, body).map_err(Refusal::from))
    }

    fn ask(&mut self, to: String, body: Vec<u8>, deadline_ms: u32) -> Refusable<u64> {
        self.message("ask")?;
        Ok(self.dealings.ask(&to, body, deadline_ms).map_err(Refusal::from))
    }

    fn set_timer(&mut self, after_ms: u64) -> Refusable<u64> {
        self.message("set-timer")?;
        Ok(self.dealings.set_timer(after_ms).map_err(Refusal::from))
    }

    fn cancel_timer(&mut self, timer: u64) -> wasmtime::Result<bool> {
        self.message("cancel-timer")?;
        Ok(self.dealings.cancel_timer(timer))
    }

    fn random_bytes(&mut self, len: u32) -> Refusable<Vec<u8>> {
        Ok(self.dealings.random(len)?.map_err(Refusal::from))
    }

    fn now(&mut self) -> Refusable<u64> {
        Ok(self.dealings.now().map_err(Refusal::from))
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
        Ok(self.dealings.publish(&topic, payload).map_err(Refusal::from))
    }

    fn subscribe(&mut self, topic: String) -> Refusable<()> {
        self.message("subscribe")?;
        Ok(self.dealings.subscribe(&topic).map_err(Refusal::from))
    }
}
