//! Exports whose names tell their types: `NAME: func(PARAMETERS) -> RESULT`, as bindings wrote them before
//! there were components. Pure.

/// What stands between the name and the parameters.
const FUNC: &str = ": func(";

/// What an export gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// Its results themselves.
    Numbers,
    /// The address of a text's address and length.
    Text,
    /// The address of so many numbers of 32 bits.
    Tuple(usize),
}

/// Whether the name tells the types.
pub(super) fn is_typed(export: &str) -> bool {
    export.contains(FUNC)
}

/// Whether it is the export of that name.
pub(super) fn is_called(export: &str, name: &str) -> bool {
    export.strip_prefix(name).is_some_and(|rest| rest.starts_with(FUNC))
}

/// What the export gives. Of types that are not known here, the numbers.
pub(super) fn gives(export: &str) -> Gives {
    let result = export.split_once(FUNC).and_then(|(_, types)| types.rsplit_once(") -> "));
    match result.map(|(_, result)| result) {
        Some("string") => Gives::Text,
        Some(result) => tuple(result).map_or(Gives::Numbers, Gives::Tuple),
        None => Gives::Numbers,
    }
}

/// How many numbers a tuple has. One alone would not be in memory.
fn tuple(result: &str) -> Option<usize> {
    let elements = result.strip_prefix("tuple<")?.strip_suffix('>')?;
    let is_number = |element: &str| {
        matches!(element, "s32" | "u32")
            || (element.starts_with("handle<") && element.matches(['<', '>']).count() == 2)
    };
    let elements: Vec<&str> = elements.split(", ").collect();
    (elements.len() > 1 && elements.iter().all(|it| is_number(it))).then_some(elements.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_found_by_its_name_alone() {
        let init = "ruby-init: func(args: list<string>) -> ()";
        assert!(is_typed(init) && is_called(init, "ruby-init"));
        assert!(!is_called(init, "ruby") && !is_called("ruby-init", "ruby-init"));
        assert!(!is_typed("_initialize"));
    }

    #[test]
    fn what_it_gives_is_told_from_its_name() {
        let eval = "eval: func(str: string) -> tuple<handle<rb-abi-value>, s32>";
        for (export, expected) in [
            (eval, Gives::Tuple(2)),
            ("text: func(value: handle<x>) -> string", Gives::Text),
            ("none: func() -> ()", Gives::Numbers),
            ("one: func() -> tuple<s32>", Gives::Numbers),
            ("float: func() -> tuple<s32, float64>", Gives::Numbers),
            ("number: func() -> u32", Gives::Numbers),
            ("string", Gives::Numbers),
            (") -> string", Gives::Numbers),
        ] {
            assert_eq!(gives(export), expected, "{export}");
        }
    }
}
