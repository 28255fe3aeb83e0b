//! HTML that can't be injected into: text is escaped by going in, markup is only what stands in this program.

/// A piece of HTML.
#[derive(Default)]
pub(crate) struct Html(String);

impl Html {
    /// Adds markup. Only literals fit.
    pub(crate) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text, escaped for content and for attributes in double quotes.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        self
    }

    /// The whole.
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Html;

    #[test]
    fn text_is_never_markup() {
        let mut html = Html::default();
        html.markup("<a href=\"").text("\"><script>'&").markup("\">");
        assert_eq!(html.into_string(), "<a href=\"&quot;&gt;&lt;script&gt;&#39;&amp;\">");
    }
}
