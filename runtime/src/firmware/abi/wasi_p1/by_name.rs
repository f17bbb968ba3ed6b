//! Calls of a reactor's exports by name, for guests that know nothing of Odeum.
//!
//! `runtime/wit/odeum-wasi-reactor.md` is the contract: a message is the name of an exported function
//! and its arguments, the reply is its results.

mod room;
mod typed;
mod words;

use std::{borrow::Cow, fmt::Write as _};

use wasmtime::{Func, Instance, Module, Store, Val, ValType};

use self::{
    room::Room,
    typed::Gives,
    words::{Word, words},
};
use crate::{
    firmware::{abi::core::Guest, store::Stop},
    package::normalise,
};

/// Refused messages give this code.
const REFUSED: i32 = 1;

/// Most exports that a refusal lists.
const NAMES: usize = 16;

/// An instance whose exports are called by name.
pub(in crate::firmware::abi) struct ByName {
    instance: Instance,
    /// The exports whose names tell their types.
    typed: Vec<Box<str>>,
}

/// A message that can be carried out.
struct Call {
    func: Func,
    /// What it is called by.
    name: Box<str>,
    gives: Gives,
    arguments: Vec<Argument>,
    /// Where texts are put; there is such a place when there are texts.
    room: Option<Room>,
}

enum Argument {
    Number(Val),
    Text(String),
    Texts(Vec<String>),
}

impl ByName {
    /// `instance` is one of `module`.
    pub(in crate::firmware::abi) fn new(instance: Instance, module: &Module) -> Self {
        let names = module.exports().map(|export| export.name());
        let typed = names.filter(|name| typed::is_typed(name)).map(Into::into).collect();
        Self { instance, typed }
    }

    /// Calls what `message` names; the results, or why there are none, are the reply.
    ///
    /// # Errors
    /// What ended the guest.
    pub(in crate::firmware::abi) async fn call<W: Send + 'static>(
        &self,
        store: &mut Store<Guest<W>>,
        message: &[u8],
    ) -> wasmtime::Result<i32> {
        let call = match self.parsed(store, message) {
            Ok(call) => call,
            Err(refusal) => {
                if let Some(message) = &mut store.data_mut().message {
                    message.buffer.refuse(&refusal);
                }
                return Ok(REFUSED);
            }
        };
        let args = placed(store, &call).await?;
        let mut results = vec![Val::I32(0); call.func.ty(&*store).results().len()];
        call.func.call_async(&mut *store, &args, &mut results).await?;
        reply(store, call.gives, &results)?;
        if let (Gives::Text | Gives::Tuple(_), [Val::I32(at)]) = (call.gives, results.as_slice()) {
            let post = format!("cabi_post_{}", call.name);
            if let Ok(post) = self.instance.get_typed_func::<i32, ()>(&mut *store, &post) {
                post.call_async(&mut *store, *at).await?;
            }
        }
        Ok(0)
    }

    fn parsed<W: Send + 'static>(
        &self,
        store: &mut Store<Guest<W>>,
        message: &[u8],
    ) -> Result<Call, String> {
        let text = std::str::from_utf8(message).map_err(|_| {
            "the message is no text: write the name of an export and its arguments".to_owned()
        })?;
        let text = text.trim();
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let Some((func, gives)) = self.export(store, name) else {
            return Err(format!("there is no export {name:?}: there are {}", self.names(store)));
        };
        let words = words(rest)?;
        let ty = func.ty(&*store);
        let (takes, got) = (ty.params().len(), words.iter().map(Word::numbers).sum::<usize>());
        if takes != got {
            return Err(format!("`{name}` takes {takes} numbers, {got} were given"));
        }
        let has_texts = words.iter().any(|word| !matches!(word, Word::Number(_)));
        let room = if has_texts { Room::of(&self.instance, store) } else { None };
        if has_texts && room.is_none() {
            return Err(format!("`{name}` can be given no text: {}", room::NEEDS));
        }
        let mut types = ty.params();
        let arguments = words.into_iter().map(|word| argument(word, &mut types, name));
        let arguments = arguments.collect::<Result<Vec<Argument>, String>>()?;
        Ok(Call { func, name: name.into(), gives, arguments, room })
    }

    /// The function of that name, and what it gives.
    fn export<W: Send + 'static>(
        &self,
        store: &mut Store<Guest<W>>,
        name: &str,
    ) -> Option<(Func, Gives)> {
        if name.starts_with(normalise::PREFIX) {
            return None;
        }
        if let Some(func) = self.instance.get_func(&mut *store, name) {
            return Some((func, Gives::Numbers));
        }
        let export = self.typed.iter().find(|export| typed::is_called(export, name))?;
        Some((self.instance.get_func(&mut *store, export)?, typed::gives(export)))
    }

    fn names<W: Send + 'static>(&self, store: &mut Store<Guest<W>>) -> String {
        let (mut first, mut more) = (Vec::new(), 0_usize);
        for export in self.instance.exports(&mut *store) {
            let name = export.name();
            if name.starts_with(normalise::PREFIX) || export.into_func().is_none() {
                continue;
            }
            // There may be a million of them.
            if first.len() < NAMES {
                first.push(name.to_owned());
            } else {
                more += 1;
            }
        }
        match more {
            0 => first.join(", "),
            more => format!("{} and {more} more", first.join(", ")),
        }
    }
}

/// What a function takes for a word. There are as many types as there are numbers.
fn argument(
    word: Word,
    types: &mut impl Iterator<Item = ValType>,
    name: &str,
) -> Result<Argument, String> {
    let mut next = || types.next().unwrap_or(ValType::I32);
    let argument = match word {
        Word::Number(number) => {
            let ty = next();
            let told = || format!("{number:?} is no {ty}, which `{name}` takes");
            return value(&ty, &number).map(Argument::Number).ok_or_else(told);
        }
        Word::Text(text) => Argument::Text(text),
        Word::Texts(texts) => Argument::Texts(texts),
    };
    match (next(), next()) {
        (ValType::I32, ValType::I32) => Ok(argument),
        (at, len) => Err(format!("`{name}` takes {at} and {len} where a text was given")),
    }
}

/// The arguments as the function takes them, once what lies in memory does so.
async fn placed<W: Send + 'static>(
    store: &mut Store<Guest<W>>,
    call: &Call,
) -> wasmtime::Result<Vec<Val>> {
    let mut args = Vec::new();
    for argument in &call.arguments {
        let (at, len) = match (argument, &call.room) {
            (Argument::Number(value), _) => {
                args.push(*value);
                continue;
            }
            (Argument::Text(text), Some(room)) => room.text(store, text).await?,
            (Argument::Texts(texts), Some(room)) => room.texts(store, texts).await?,
            (_, None) => (0, 0),
        };
        args.extend([Val::I32(at), Val::I32(len)]);
    }
    Ok(args)
}

/// Has the results be the reply.
fn reply<W: Send + 'static>(
    store: &mut Store<Guest<W>>,
    gives: Gives,
    results: &[Val],
) -> wasmtime::Result<()> {
    let (exported, nothing): (_, &[u8]) = (store.data().memory, &[]);
    let (memory, guest) = match exported {
        Some(memory) => {
            let (bytes, guest) = memory.data_and_store_mut(&mut *store);
            (&*bytes, guest)
        }
        None => (nothing, store.data_mut()),
    };
    let Some(message) = &mut guest.message else { return Ok(()) };
    let said = match (gives, results) {
        (Gives::Text, [Val::I32(at)]) => Cow::Borrowed(room::text_at(memory, *at)?),
        (Gives::Tuple(count), [Val::I32(at)]) => {
            let numbers = room::numbers_at(memory, *at, count)?;
            let results: Vec<Val> = numbers.into_iter().map(Val::I32).collect();
            Cow::Owned(written(&results).into_bytes())
        }
        _ => Cow::Owned(written(results).into_bytes()),
    };
    message.buffer.reply(&said).map_err(Stop::from)?;
    Ok(())
}

fn value(ty: &ValType, word: &str) -> Option<Val> {
    Some(match ty {
        // Both ways of reading 32 bits.
        ValType::I32 => {
            Val::I32(word.parse().or_else(|_| word.parse::<u32>().map(u32::cast_signed)).ok()?)
        }
        ValType::I64 => {
            Val::I64(word.parse().or_else(|_| word.parse::<u64>().map(u64::cast_signed)).ok()?)
        }
        ValType::F32 => Val::F32(word.parse::<f32>().ok()?.to_bits()),
        ValType::F64 => Val::F64(word.parse::<f64>().ok()?.to_bits()),
        _ => return None,
    })
}

fn written(results: &[Val]) -> String {
    let mut text = String::new();
    for (i, result) in results.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = match result {
            Val::I32(value) => write!(text, "{space}{value}"),
            Val::I64(value) => write!(text, "{space}{value}"),
            Val::F32(bits) => write!(text, "{space}{}", f32::from_bits(*bits)),
            Val::F64(bits) => write!(text, "{space}{}", f64::from_bits(*bits)),
            _ => write!(text, "{space}?"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_their_type_has_them() {
        assert!(matches!(value(&ValType::I32, "-1"), Some(Val::I32(-1))));
        assert!(matches!(value(&ValType::I32, "4294967295"), Some(Val::I32(-1))));
        assert!(value(&ValType::I32, "4294967296").is_none());
        assert!(matches!(value(&ValType::I64, "18446744073709551615"), Some(Val::I64(-1))));
        assert!(matches!(value(&ValType::F64, "1.5"), Some(Val::F64(_))));
        assert!(value(&ValType::FUNCREF, "1").is_none());
        let results = [Val::I32(-1), Val::I64(7), Val::F64(1.5_f64.to_bits())];
        assert_eq!(written(&results), "-1 7 1.5");
    }
}
