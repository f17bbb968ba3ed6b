//! Calls of a reactor's exports by name, for guests that know nothing of Odeum.
//!
//! `runtime/wit/odeum-wasi-reactor.md` is the contract: a message is the name of an exported function
//! and its numbers, the reply is its results.

use std::fmt::Write as _;

use wasmtime::{Instance, Store, Val, ValType};

use crate::{
    firmware::{abi::core::Guest, store::Stop},
    package::normalise,
};

/// Refused messages give this code.
const REFUSED: i32 = 1;

/// Most exports that a refusal lists.
const NAMES: usize = 16;

/// An instance whose exports are called by name.
pub(in crate::firmware::abi) struct ByName(pub(in crate::firmware::abi) Instance);

impl ByName {
    /// Calls what `message` names; the results, or why there are none, are the reply.
    ///
    /// # Errors
    /// What ended the guest.
    pub(in crate::firmware::abi) async fn call<W: Send + 'static>(
        &self,
        store: &mut Store<Guest<W>>,
        message: &[u8],
    ) -> wasmtime::Result<i32> {
        let (code, said) = match self.parsed(store, message) {
            Ok((func, args)) => {
                let results = func.ty(&*store).results().len();
                let mut results = vec![Val::I32(0); results];
                func.call_async(&mut *store, &args, &mut results).await?;
                (0, written(&results))
            }
            Err(refusal) => (REFUSED, refusal),
        };
        if let Some(message) = &mut store.data_mut().message {
            message.buffer.reply(said.as_bytes()).map_err(Stop::from)?;
        }
        Ok(code)
    }

    fn parsed<W: Send + 'static>(
        &self,
        store: &mut Store<Guest<W>>,
        message: &[u8],
    ) -> Result<(wasmtime::Func, Vec<Val>), String> {
        let text = std::str::from_utf8(message).map_err(|_| {
            "the message is no text: write the name of an export and its numbers".to_owned()
        })?;
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let is_guests = !name.starts_with(normalise::PREFIX);
        let Some(func) = self.0.get_func(&mut *store, name).filter(|_| is_guests) else {
            return Err(format!("there is no export {name:?}: there are {}", self.names(store)));
        };
        let ty = func.ty(&*store);
        let params: Vec<ValType> = ty.params().collect();
        if params.len() != words.len() {
            let (takes, got) = (params.len(), words.len());
            return Err(format!("`{name}` takes {takes} numbers, {got} were given"));
        }
        let number = |(ty, word): (&ValType, &&str)| {
            value(ty, word).ok_or_else(|| format!("{word:?} is no {ty}, which `{name}` takes"))
        };
        let args = params.iter().zip(&words).map(number).collect::<Result<Vec<Val>, String>>()?;
        Ok((func, args))
    }

    fn names<W: Send + 'static>(&self, store: &mut Store<Guest<W>>) -> String {
        let is_func = |export: wasmtime::Export<'_>| {
            let name = export.name().to_owned();
            export.into_func().filter(|_| !name.starts_with(normalise::PREFIX))?;
            Some(name)
        };
        let names: Vec<String> = self.0.exports(&mut *store).filter_map(is_func).collect();
        let first: Vec<String> = names.iter().take(NAMES).cloned().collect();
        match names.len().saturating_sub(NAMES) {
            0 => first.join(", "),
            more => format!("{} and {more} more", first.join(", ")),
        }
    }
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
