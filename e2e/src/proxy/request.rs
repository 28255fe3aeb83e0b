//! What a request asks for, in the API server's words.

use std::fmt;

use chrono::{DateTime, Utc};
use hyper::Method;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::Value;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it had come whole.
    pub at: DateTime<Utc>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// Plural, with the subresource behind a slash, as `certificatemonitors/status`.
    pub resource: String,
    /// Empty where there is none.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// What stands behind the question mark.
    pub query: String,
    /// Empty where there is none.
    pub body: Bytes,
}

impl Request {
    pub(super) fn of(head: &Parts, body: Bytes) -> Self {
        let query = head.uri.query().unwrap_or_default().to_owned();
        let mut parts = head.uri.path().split('/').filter(|part| !part.is_empty()).peekable();
        // api/VERSION or apis/GROUP/VERSION.
        let root = if parts.next() == Some("apis") { 2 } else { 1 };
        let mut parts = parts.skip(root).peekable();
        let mut namespace = String::new();
        if parts.peek() == Some(&"namespaces") {
            parts.next();
            namespace = parts.next().unwrap_or_default().to_owned();
        }
        let mut resource = parts.next().unwrap_or_default().to_owned();
        let name = parts.next().unwrap_or_default().to_owned();
        if let Some(subresource) = parts.next() {
            resource = format!("{resource}/{subresource}");
        }
        let watches = query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1");
        let verb = match head.method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if watches => "watch",
            _ if name.is_empty() => "list",
            _ => "get",
        };
        Self {
            at: Utc::now(),
            verb,
            resource,
            namespace,
            name,
            query,
            body,
        }
    }

    /// The body as JSON; null if it isn't.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, verb, resource, name) = (self.at.format("%T%.3f"), self.verb, &self.resource, &self.name);
        write!(formatter, "{at} {verb} {resource} {name}?{}", self.query)
    }
}

/// Which requests are meant.
#[derive(Debug, Clone)]
pub struct Matching {
    verbs: Vec<&'static str>,
    resource: &'static str,
    name: Option<String>,
    query: Option<String>,
}

impl Matching {
    /// Any of these verbs, of this resource (as in [`Request::resource`]).
    pub fn new(verbs: &[&'static str], resource: &'static str) -> Self {
        Self {
            verbs: verbs.to_vec(),
            resource,
            name: None,
            query: None,
        }
    }

    /// Of this object alone.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// With this in the query, as it stands there.
    #[must_use]
    pub fn asking(mut self, part: &str) -> Self {
        self.query = Some(part.to_owned());
        self
    }

    /// Whether a request is one of them.
    pub fn is(&self, request: &Request) -> bool {
        self.verbs.contains(&request.verb)
            && self.resource == request.resource
            && self.name.as_ref().is_none_or(|name| *name == request.name)
            && self.query.as_ref().is_none_or(|part| request.query.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(method: Method, uri: &str) -> (&'static str, String, String, String) {
        let (head, ()) = hyper::Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .expect("a request")
            .into_parts();
        let request = Request::of(&head, Bytes::new());
        (request.verb, request.resource, request.namespace, request.name)
    }

    #[test]
    fn paths_are_read_as_the_api_server_reads_them() {
        let owned = |verb, resource: &str, namespace: &str, name: &str| {
            (verb, resource.to_owned(), namespace.to_owned(), name.to_owned())
        };
        assert_eq!(
            seen(Method::GET, "/api/v1/namespaces/a/secrets?watch=true&x=1"),
            owned("watch", "secrets", "a", "")
        );
        assert_eq!(
            seen(Method::GET, "/api/v1/namespaces/a/secrets/b"),
            owned("get", "secrets", "a", "b")
        );
        assert_eq!(
            seen(Method::GET, "/api/v1/secrets?limit=20"),
            owned("list", "secrets", "", "")
        );
        assert_eq!(
            seen(Method::PUT, "/apis/certmon.dev/v1alpha1/namespaces/a/alertledgers/b"),
            owned("update", "alertledgers", "a", "b")
        );
        assert_eq!(
            seen(
                Method::PATCH,
                "/apis/certmon.dev/v1alpha1/namespaces/a/certificatemonitors/b/status?force=true"
            ),
            owned("patch", "certificatemonitors/status", "a", "b")
        );
    }
}
