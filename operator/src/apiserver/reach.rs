//! Whether the API server can be had, by how calls end: said once in words when it can't, once when it can again.

use futures::future::BoxFuture;
use http::Response;
use std::{
    error::Error as StdError,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::{BoxError, Service};

/// Failures in a row that are nobody's news, once there was an answer.
const BLIPS: u32 = 2;
/// A server that comes and goes, or answers one thing and not another, is written about this often at most; if it is away
/// for longer, that is said then.
const SPACING: Duration = Duration::from_secs(300);
/// Nobody gives a call up earlier for want of an answer.
const PATIENCE: Duration = Duration::from_secs(25);

/// Why a call had no answer to use. A closed list: what the server or what stands before it wrote is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    NotResolved,
    Refused,
    NoRoute,
    TimedOut,
    Closed,
    Untrusted,
    Tls,
    Credentials,
    Unauthorized,
    Gateway,
    Other,
}

impl Trouble {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(error);
        let mut found = Self::Other;
        while let Some(error) = next {
            if error.is::<kube::client::AuthError>() {
                return Self::Credentials;
            }
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Self::of_tls(error);
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    return Self::of_tls(inner);
                }
                found = match error.kind() {
                    io::ErrorKind::ConnectionRefused => Self::Refused,
                    io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::NoRoute,
                    io::ErrorKind::TimedOut => Self::TimedOut,
                    io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof => Self::Closed,
                    _ => found,
                };
            }
            // The connector's own error, of a type that isn't public.
            if error.to_string().starts_with("dns error") {
                return Self::NotResolved;
            }
            if error
                .downcast_ref::<hyper::Error>()
                .is_some_and(|error| error.is_incomplete_message() || error.is_canceled())
            {
                found = Self::Closed;
            }
            next = error.source();
        }
        found
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(_) => Self::Untrusted,
            _ => Self::Tls,
        }
    }

    /// What happened, and what to do.
    fn text(self) -> &'static str {
        match self {
            Self::NotResolved => "its host name does not resolve; check the server in the kubeconfig, and DNS",
            Self::Refused => "nothing listens there; check the server and its port in the kubeconfig, and that it runs",
            Self::NoRoute => "there is no route to it; check the network, a VPN or a NetworkPolicy",
            Self::TimedOut => "it does not answer in time; check the network, firewalls and NetworkPolicies",
            Self::Closed => "the connection is closed before an answer; check what stands before it, such as a proxy",
            Self::Untrusted => {
                "its certificate is not trusted; check certificate-authority and the server's name in the kubeconfig"
            }
            Self::Tls => {
                "TLS fails; check that the server in the kubeconfig is an API server, and the client certificate"
            }
            Self::Credentials => {
                "there are no credentials to show it; check the user in the kubeconfig, its token file or exec plugin"
            }
            Self::Unauthorized => "it does not accept the credentials (401); renew those of the user in the kubeconfig",
            Self::Gateway => "it is not available (502, 503 or 504); check it, and what stands before it",
            Self::Other => "the connection fails; check the server in the kubeconfig",
        }
    }
}

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Away(Trouble),
    Back,
}

#[derive(Debug, Default)]
struct State {
    answered: bool,
    failures: u32,
    /// It was said that the server can't be had, and not yet that it can again.
    away: bool,
    said: Option<Instant>,
}

impl State {
    fn hear(&mut self, outcome: Result<(), Trouble>, now: Instant) -> Option<News> {
        match outcome {
            Ok(()) => {
                (self.answered, self.failures) = (true, 0);
                std::mem::take(&mut self.away).then_some(News::Back)
            }
            Err(trouble) => {
                self.failures = self.failures.saturating_add(1);
                let news = !self.answered || self.failures > BLIPS;
                let spaced = self.said.is_none_or(|said| now.duration_since(said) >= SPACING);
                if self.away || !news || !spaced {
                    return None;
                }
                (self.away, self.said) = (true, Some(now));
                Some(News::Away(trouble))
            }
        }
    }
}

/// What is known of the way to one API server.
pub(super) struct Reach {
    server: String,
    state: Mutex<State>,
}

impl Reach {
    /// `server` is how people know it: no credential is in it.
    pub(super) fn new(server: String) -> Self {
        Self {
            server,
            state: Mutex::default(),
        }
    }

    fn hear(&self, outcome: Result<(), Trouble>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.hear(outcome, Instant::now()) {
            Some(News::Away(trouble)) => tracing::warn!(
                api_server = self.server,
                "the API server can't be reached: {}; it is tried again until it answers",
                trouble.text()
            ),
            Some(News::Back) => tracing::info!(api_server = self.server, "the API server can be reached again"),
            None => {}
        }
    }
}

/// A call whose end is listened to; one that is given up after long has had no answer.
struct Call {
    reach: Arc<Reach>,
    begun: Instant,
    ended: bool,
}

impl Call {
    fn end(mut self, outcome: Result<(), Trouble>) {
        self.ended = true;
        self.reach.hear(outcome);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended && self.begun.elapsed() >= PATIENCE {
            self.reach.hear(Err(Trouble::TimedOut));
        }
    }
}

/// The client's calls, listened to.
#[derive(Clone)]
pub(super) struct Listening<S> {
    inner: S,
    reach: Arc<Reach>,
}

impl<S> Listening<S> {
    pub(super) fn new(inner: S, reach: Arc<Reach>) -> Self {
        Self { inner, reach }
    }
}

impl<S> fmt::Debug for Listening<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listening")
    }
}

impl<S, R, B> Service<R> for Listening<S>
where
    S: Service<R, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let call = Call {
            reach: Arc::clone(&self.reach),
            begun: Instant::now(),
            ended: false,
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            call.end(match &answer {
                Ok(response) => match response.status().as_u16() {
                    401 => Err(Trouble::Unauthorized),
                    502..=504 => Err(Trouble::Gateway),
                    _ => Ok(()),
                },
                Err(error) => Err(Trouble::of(error.as_ref())),
            });
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> BoxError {
        Box::new(io::Error::from(kind))
    }

    #[test]
    fn a_cause_is_found_however_deep_it_is() {
        let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        for (error, trouble) in [
            (io(io::ErrorKind::ConnectionRefused), Trouble::Refused),
            (io(io::ErrorKind::TimedOut), Trouble::TimedOut),
            (io(io::ErrorKind::NetworkUnreachable), Trouble::NoRoute),
            (io(io::ErrorKind::ConnectionReset), Trouble::Closed),
            (
                Box::new(io::Error::other(untrusted.clone())) as BoxError,
                Trouble::Untrusted,
            ),
            (Box::new(untrusted), Trouble::Untrusted),
            (Box::new(rustls::Error::DecryptError), Trouble::Tls),
            ("dns error: of some kind".into(), Trouble::NotResolved),
            ("canary".into(), Trouble::Other),
        ] {
            assert_eq!(Trouble::of(error.as_ref()), trouble);
            let deep: BoxError = Box::new(kube::Error::Service(error));
            assert_eq!(Trouble::of(deep.as_ref()), trouble);
        }
    }

    #[test]
    fn trouble_is_said_once_at_the_first_call_and_its_end_once() {
        let (mut state, now) = (State::default(), Instant::now());
        assert_eq!(
            state.hear(Err(Trouble::Refused), now),
            Some(News::Away(Trouble::Refused))
        );
        for _ in 0..100 {
            assert_eq!(state.hear(Err(Trouble::TimedOut), now + SPACING), None);
        }
        assert_eq!(state.hear(Ok(()), now), Some(News::Back));
        assert_eq!(state.hear(Ok(()), now), None);
    }

    #[test]
    fn a_call_that_fails_between_others_is_no_news() {
        let (mut state, now) = (State::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(state.hear(Ok(()), now), None);
            assert_eq!(state.hear(Err(Trouble::Closed), now), None);
            assert_eq!(state.hear(Err(Trouble::Closed), now), None);
        }
        assert_eq!(state.hear(Err(Trouble::Closed), now), Some(News::Away(Trouble::Closed)));
    }

    #[test]
    fn a_server_that_comes_and_goes_is_written_about_now_and_then_and_one_that_stays_away_for_certain() {
        let (mut state, start) = (State::default(), Instant::now());
        let mut lines = 0;
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            for outcome in [Err(Trouble::Closed), Err(Trouble::Closed), Err(Trouble::Closed), Ok(())] {
                lines += usize::from(state.hear(outcome, now).is_some());
            }
        }
        assert_eq!(lines, 4, "twice away and twice back");
        // Away anew within the pause: said when it is over.
        let away = start + Duration::from_secs(500);
        for _ in 0..10 {
            assert_eq!(state.hear(Err(Trouble::Closed), away), None);
        }
        let later = start + SPACING * 2;
        assert_eq!(
            state.hear(Err(Trouble::Closed), later),
            Some(News::Away(Trouble::Closed))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_late_had_no_answer_and_one_given_up_early_says_nothing() {
        let reach = Arc::new(Reach::new("https://api:443".to_owned()));
        let call = || Call {
            reach: Arc::clone(&reach),
            begun: Instant::now(),
            ended: false,
        };
        let failures = || reach.state.lock().unwrap_or_else(PoisonError::into_inner).failures;
        drop(call());
        assert_eq!(failures(), 0);
        let late = call();
        tokio::time::advance(PATIENCE).await;
        drop(late);
        assert_eq!(failures(), 1);
        call().end(Ok(()));
        assert_eq!(failures(), 0);
    }
}
