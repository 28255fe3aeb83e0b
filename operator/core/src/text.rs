//! Text that somebody else wrote. A certificate's names reach status, Events, mail and chat: they pass through
//! [`PeerText`] first, which can only be made by sanitising.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// Text taken from a certificate or another peer: free of control, bidirectional-override and zero-width characters,
/// at most [`PeerText::MAX_CHARS`] characters.
///
/// What was cut ends in `…`. Escaping for a medium (HTML, Slack's markup) is the renderer's work.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct PeerText(Arc<str>);

impl PeerText {
    /// The most characters that are kept.
    pub const MAX_CHARS: usize = 256;

    /// Sanitises `raw`: every character that could forge a line or reorder a text becomes `\u{fffd}`.
    #[must_use]
    pub fn sanitise(raw: &str) -> Self {
        let mut out = String::with_capacity(raw.len().min(Self::MAX_CHARS * 4));
        for (count, c) in raw.chars().enumerate() {
            if count == Self::MAX_CHARS {
                out.pop();
                out.push('…');
                break;
            }
            out.push(if is_unsafe(c) { '\u{fffd}' } else { c });
        }
        Self(out.trim().into())
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a character could forge a line or reorder a text: control characters (C0, DEL, C1), line and paragraph
/// separators, bidirectional controls, zero-width characters, tags. Renderers drop them again at their own edge.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl From<String> for PeerText {
    fn from(raw: String) -> Self {
        Self::sanitise(&raw)
    }
}

impl From<PeerText> for String {
    fn from(text: PeerText) -> Self {
        text.0.as_ref().to_owned()
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_bidi_and_escapes_do_not_survive() {
        let text = PeerText::sanitise("a\r\nBcc: x\u{1b}[31m\u{202e}evil\u{200b}");
        assert!(!text.as_str().chars().any(is_unsafe), "{text:?}");
    }

    #[test]
    fn long_text_is_cut_at_a_character_and_says_so() {
        let text = PeerText::sanitise(&"ä".repeat(1000));
        assert_eq!(text.as_str().chars().count(), PeerText::MAX_CHARS);
        assert!(text.as_str().ends_with('…'));
    }
}
