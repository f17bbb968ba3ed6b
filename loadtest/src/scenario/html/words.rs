//! Figures as people read them.

/// With as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        of if of >= 100.0 || of.fract() == 0.0 => 0,
        of if of >= 10.0 => 1,
        of if of >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    match text.split_once('.') {
        None => grouped(&text),
        Some(_) => text,
    }
}

pub(super) fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// Thousands apart, by a space that does not break.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push('\u{202f}');
        }
        text.push(c);
    }
    text
}

pub(super) fn millis(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{} s", number(value / 1_000.0))
    } else {
        format!("{} ms", number(value))
    }
}

pub(super) fn micros(value: u64) -> String {
    if value >= 1_000 { millis(value as f64 / 1_000.0) } else { format!("{value} \u{b5}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let texts = [12_345.6, 99.94, 3.456, 0.01234, 5.0].map(number);
        assert_eq!(texts, ["12\u{202f}346", "99.9", "3.46", "0.012", "5"]);
        assert_eq!([micros(12), micros(1_234)], ["12 \u{b5}s", "1.23 ms"]);
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
