//! The arguments in a message that calls an export by its name. Pure: text in, words out.

use serde::Deserialize;

/// An argument.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Word {
    /// Text, as JSON has it.
    Text(String),
    /// A list of texts, as JSON has it.
    Texts(Vec<String>),
    /// Anything else, up to the next space.
    #[serde(skip_deserializing)]
    Number(String),
}

impl Word {
    /// How many numbers a function takes for it: of what lies in memory, where that is and how long.
    pub(super) fn numbers(&self) -> usize {
        match self {
            Self::Text(_) | Self::Texts(_) => 2,
            Self::Number(_) => 1,
        }
    }
}

/// All words of a text.
///
/// # Errors
/// What is wrong with the first that cannot be read.
pub(super) fn words(text: &str) -> Result<Vec<Word>, String> {
    let (mut words, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let (word, behind) = if rest.starts_with(['"', '[']) { quoted(rest)? } else { plain(rest) };
        words.push(word);
        rest = behind.trim_start();
    }
    Ok(words)
}

fn quoted(text: &str) -> Result<(Word, &str), String> {
    let mut read = serde_json::Deserializer::from_str(text).into_iter::<Word>();
    match read.next() {
        Some(Ok(word)) => Ok((word, text.get(read.byte_offset()..).unwrap_or_default())),
        Some(Err(error)) => Err(format!("this is no text and no list of texts in JSON: {error}")),
        None => Err("there is nothing".to_owned()),
    }
}

fn plain(text: &str) -> (Word, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    (Word::Number(word.to_owned()), behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_texts_and_lists_are_told_apart() {
        let text = |text: &str| Word::Text(text.to_owned());
        let number = |number: &str| Word::Number(number.to_owned());
        let list = Word::Texts(vec!["-e".to_owned(), "puts \"x\"".to_owned()]);
        assert_eq!(words("  "), Ok(vec![]));
        assert_eq!(words(" -1  2.5 "), Ok(vec![number("-1"), number("2.5")]));
        assert_eq!(words(r#""a b\n" 7"#), Ok(vec![text("a b\n"), number("7")]));
        assert_eq!(words(r#"["-e", "puts \"x\""] """#), Ok(vec![list, text("")]));
        assert_eq!(words("[]").map(|words| words[0].numbers()), Ok(2));
    }

    #[test]
    fn what_is_no_json_is_told() {
        for wrong in ["\"open", "[1]", "[\"a\"", "[[\"a\"]]"] {
            assert!(words(wrong).is_err_and(|error| error.contains("JSON")), "{wrong}");
        }
    }
}
