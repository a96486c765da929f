//! Which part of an assistant message is judged.

/// Splits the answer's text into what is only given to the model and what is judged. As in Qwen's template: thinking
/// ends with the last `</think>`, and newlines before the answer proper do not count.
pub(crate) fn split(content: &str) -> (&str, &str) {
    const THINK_END: &str = "</think>";
    let thinking = content.rfind(THINK_END).map_or(0, |at| at + THINK_END.len());
    let judged = content[thinking..].trim_start_matches('\n');
    content.split_at(content.len() - judged.len())
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn thinking_and_leading_newlines_are_given_not_judged() {
        assert_eq!(split("hello"), ("", "hello"));
        assert_eq!(split("\n\nhello\n"), ("\n\n", "hello\n"));
        assert_eq!(split("<think>\na\n</think>\n\nhello"), ("<think>\na\n</think>\n\n", "hello"));
        assert_eq!(split(""), ("", ""));
    }
}
