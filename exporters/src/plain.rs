//! Text of others, made harmless for a terminal.
//!
//! Names come from databases, senders and files; a terminal obeys what is in them, and a log's reader believes it.

use std::borrow::Cow;

/// `text` with every character replaced by `U+FFFD` that a terminal would obey rather than show: control
/// characters (ESC and the C1 set included), line and paragraph separators, and what turns the direction of
/// writing. Line feeds and tabs are among them: give it what stands within one line.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(commands) {
        Cow::Owned(text.chars().map(|c| if commands(c) { char::REPLACEMENT_CHARACTER } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

fn commands(c: char) -> bool {
    c.is_control()
        // Arabic letter mark; left-to-right and right-to-left mark; separators, embeddings and overrides;
        // isolates and the deprecated format characters.
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_replaced() {
        for evil in
            ["\x1b", "\u{9b}", "\x7f", "\r", "\n", "\t", "\0", "\u{202e}", "\u{2066}", "\u{200f}", "\u{2028}"]
        {
            assert_eq!(plain(&format!("a{evil}[2Jb")), "a\u{fffd}[2Jb", "{evil:?}");
        }
    }

    #[test]
    fn names_in_every_script_stay_as_they_are() {
        for name in ["orders_pkey", "заказы", "الطلبات", "注文 \"x\"", "e\u{301}", ""] {
            assert!(matches!(plain(name), Cow::Borrowed(same) if same == name), "{name}");
        }
    }
}
