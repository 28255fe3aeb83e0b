//! Reading a sink's Secret: which keys there are, their values as text, and the faults in words.
//!
//! A fault names keys and objects and says what to do next. No value stands in it.

use crate::{
    SinkFault, SinkSecret,
    tls::{self, Roots},
};
use certmon_core::{delivery::Misconfigured, place::Host, sink::SinkKind};
use std::cell::RefCell;
use url::Url;
use zeroize::Zeroizing;

/// The longest URL that is taken, in bytes.
const LONGEST_URL: usize = 2048;
/// The most bytes of one value, but of `ca.crt`.
const LARGEST_VALUE: usize = 64 * 1024;
/// The most bytes of a `ca.crt`: a system's whole bundle is about 220 KiB.
const LARGEST_CA: usize = 256 * 1024;
/// The most keys that a fault lists.
const LISTED_KEYS: usize = 10;

/// A configuration, and what its owner should know though it works.
pub(crate) struct Parsed<T> {
    pub(crate) config: T,
    pub(crate) remarks: Vec<String>,
}

/// A URL with `https:`, a host and no user. It has neither `Debug` nor `Display`: its path may be the credential.
#[derive(Clone)]
pub(crate) struct HttpsUrl {
    url: Url,
    host: Host,
}

impl HttpsUrl {
    /// Parses `text`.
    ///
    /// # Errors
    /// What kind of fault it is, and the rest of a sentence that begins with where the URL stands.
    pub(crate) fn parse(text: &str) -> Result<Self, (Misconfigured, &'static str)> {
        let bad = |why| (Misconfigured::BadValue, why);
        if text.len() > LONGEST_URL {
            return Err(bad(
                "is longer than 2048 bytes; write the URL that the receiver gave you",
            ));
        }
        let mut url =
            Url::parse(text).map_err(|_| bad("isn't a URL; write one like https://receiver.example.com/path"))?;
        match url.scheme() {
            "https" => {}
            "http" => {
                let why = "begins with http:, which would send the message in the clear; use an https: URL";
                return Err((Misconfigured::PlainHttp, why));
            }
            _ => return Err(bad("isn't an https: URL; use one")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(
                "has a user name or password before the host; take it out, and use the key `authorization` of a webhook's Secret",
            ));
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) => Host::parse(name).ok().filter(|host| !host.is_wildcard()),
            Some(url::Host::Ipv4(ip)) => Some(Host::Ip(ip.into())),
            Some(url::Host::Ipv6(ip)) => Some(Host::Ip(ip.into())),
            None => None,
        };
        let Some(host) = host.filter(|_| url.port() != Some(0)) else {
            return Err(bad(
                "has no host that can be dialled, or port 0; write a URL like https://receiver.example.com/path",
            ));
        };
        url.set_fragment(None);
        Ok(Self { url, host })
    }

    /// The host as it is dialled and verified.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The port, 443 if none is written.
    pub(crate) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(443)
    }

    /// What the request line asks for.
    pub(crate) fn path_and_query(&self) -> Zeroizing<String> {
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Zeroizing::new(format!("{}{query}", self.url.path()))
    }

    /// The `Host` header: the port stands in it unless it is 443.
    pub(crate) fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The URL with `name` behind its path.
    pub(crate) fn method(&self, name: &str) -> Self {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{name}", self.url.path().trim_end_matches('/')));
        Self {
            url,
            host: self.host.clone(),
        }
    }
}

/// A Secret of the right type, being read.
pub(crate) struct Reader<'a> {
    object: String,
    secret: &'a SinkSecret,
    used: RefCell<Vec<&'static str>>,
    remarks: RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    /// Begins to read the Secret of a sink.
    ///
    /// # Errors
    /// It isn't there, or isn't of the sink's type.
    pub(crate) fn open(namespace: &str, kind: &SinkKind, secret: Option<&'a SinkSecret>) -> Result<Self, SinkFault> {
        let type_ = kind.secret_type();
        let object = format!("Secret {namespace}/{}", kind.secret().unwrap_or_default());
        let Some(secret) = secret else {
            return Err(SinkFault {
                class: Misconfigured::SecretMissing,
                text: format!("{object} isn't there, or may not be read; create it with `type: {type_}`"),
            });
        };
        if secret.type_ != type_ {
            return Err(SinkFault {
                class: Misconfigured::WrongType,
                text: format!(
                    "{object} isn't of type {type_}; a Secret's type can't be changed: delete it and create it again with `type: {type_}`"
                ),
            });
        }
        Ok(Self {
            object,
            secret,
            used: RefCell::default(),
            remarks: RefCell::default(),
        })
    }

    /// A fault of the Secret.
    pub(crate) fn fault(&self, class: Misconfigured, rest: &str) -> SinkFault {
        SinkFault {
            class,
            text: format!("{} {rest}", self.object),
        }
    }

    /// A value that isn't what its key wants.
    pub(crate) fn bad(&self, key: &str, rest: &str) -> SinkFault {
        self.fault(Misconfigured::BadValue, &format!("key `{key}` {rest}"))
    }

    /// Something to know, though it is no fault.
    pub(crate) fn remark(&self, rest: &str) {
        self.remarks.borrow_mut().push(format!("{} {rest}", self.object));
    }

    /// The bytes under a key, trailing white space cut; an empty value is none.
    ///
    /// # Errors
    /// It is larger than a value of this key may be. That is never taken for none: without its `ca.crt` a sink would trust
    /// more than its owner wrote, without its `signingKey` it would send unsigned.
    fn bytes(&self, key: &'static str) -> Result<Option<&'a [u8]>, SinkFault> {
        self.used.borrow_mut().push(key);
        let Some(value) = self.secret.values.get(key).map(|value| value.trim_ascii_end()) else {
            return Ok(None);
        };
        let (most, next) = match key {
            "ca.crt" => (LARGEST_CA, "keep the certificates of the receiver's own CA"),
            _ => (LARGEST_VALUE, "write the value alone"),
        };
        if value.len() > most {
            return Err(self.bad(key, &format!("is larger than {} KiB; {next}", most / 1024)));
        }
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    /// The text under a key, if there is one.
    ///
    /// # Errors
    /// It isn't UTF-8, has control characters in it, or is too large.
    pub(crate) fn text(&self, key: &'static str) -> Result<Option<&'a str>, SinkFault> {
        let Some(bytes) = self.bytes(key)? else { return Ok(None) };
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(char::is_control) => Ok(Some(text)),
            _ => Err(self.bad(
                key,
                "isn't one line of text; write the value again, without line breaks inside it",
            )),
        }
    }

    /// The text under a key that must be there.
    ///
    /// # Errors
    /// As [`Self::text`], or the key is missing or empty.
    pub(crate) fn needed(&self, key: &'static str) -> Result<&'a str, SinkFault> {
        self.text(key)?.ok_or_else(|| self.missing(&format!("`{key}`")))
    }

    /// The fault of a missing key, with the keys that are there.
    pub(crate) fn missing(&self, wanted: &str) -> SinkFault {
        let there = |(key, value): (&String, &Zeroizing<Vec<u8>>)| {
            let empty = if value.trim_ascii_end().is_empty() {
                " (empty)"
            } else {
                ""
            };
            format!("{}{empty}", crate::words::cut(key, 63))
        };
        let keys: Vec<_> = self.secret.values.iter().map(there).take(LISTED_KEYS).collect();
        let more = if self.secret.values.len() > LISTED_KEYS {
            ", …"
        } else {
            ""
        };
        let keys = if keys.is_empty() {
            "none".to_owned()
        } else {
            keys.join(", ")
        };
        self.fault(
            Misconfigured::KeyMissing,
            &format!("has no key {wanted}; keys: {keys}{more}"),
        )
    }

    /// The URL under a key, if there is one.
    ///
    /// # Errors
    /// It isn't an https URL.
    pub(crate) fn url(&self, key: &'static str) -> Result<Option<HttpsUrl>, SinkFault> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        HttpsUrl::parse(text)
            .map(Some)
            .map_err(|(class, rest)| self.fault(class, &format!("key `{key}` {rest}")))
    }

    /// The value of a header under a key, if there is one.
    ///
    /// # Errors
    /// It can't stand in a header.
    pub(crate) fn header(&self, key: &'static str) -> Result<Option<&'a str>, SinkFault> {
        match self.text(key)? {
            Some(text) if text.len() > 4096 || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) => Err(self.bad(
                key,
                "is longer than 4096 bytes or not plain ASCII, so that no header can hold it",
            )),
            other => Ok(other),
        }
    }

    /// Whom the sink's server must be vouched for by.
    ///
    /// # Errors
    /// `ca.crt` is there and can't be read, or is too large.
    pub(crate) fn roots(&self) -> Result<Roots, SinkFault> {
        self.bytes("ca.crt")?.map_or(Ok(Roots::System), |pem| {
            tls::own_roots(pem).map_err(|why| {
                self.bad(
                    "ca.crt",
                    &format!("{why}; write the CA's certificates in PEM, or leave the key out"),
                )
            })
        })
    }

    /// Ends the reading: keys that nobody asked for are remarked.
    pub(crate) fn done<T>(self, config: T) -> Parsed<T> {
        let used = self.used.take();
        let mut remarks = self.remarks.take();
        let unknown: Vec<_> = self
            .secret
            .values
            .keys()
            .filter(|key| !used.contains(&key.as_str()))
            .map(|key| format!("`{}`", crate::words::cut(key, 63)))
            .take(LISTED_KEYS)
            .collect();
        if !unknown.is_empty() {
            let (keys, are) = if unknown.len() == 1 {
                ("key", "is")
            } else {
                ("keys", "are")
            };
            remarks.push(format!(
                "{}: unknown {keys} {} {are} ignored",
                self.object,
                unknown.join(", ")
            ));
        }
        Parsed { config, remarks }
    }
}
