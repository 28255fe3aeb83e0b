//! `/metrics`, `/healthz` and `/readyz`.

use crate::{clock::Clock, metrics::Metrics};
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The engine turns at least every ten minutes, however little there is to do. One that didn't is stuck.
const STUCK_SECONDS: i64 = 15 * 60;

#[derive(Clone)]
struct Facts {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

/// Binds the address. Returns it with the port that was chosen.
///
/// # Errors
/// The address can't be bound.
pub async fn bind(listen: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .with_state(Facts { metrics, clock });
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics and health are not served any more");
    }
}

async fn text(State(facts): State<Facts>) -> impl IntoResponse {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match facts.metrics.encode() {
        Ok(text) => (StatusCode::OK, [("content-type", TYPE)], text),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [("content-type", "text/plain")],
            String::new(),
        ),
    }
}

async fn healthy(State(facts): State<Facts>) -> impl IntoResponse {
    let silent = facts
        .clock
        .now()
        .timestamp()
        .saturating_sub(facts.metrics.last_progress());
    // Before the first turn there is nothing to be stuck in.
    if facts.metrics.last_progress() == i64::MIN || silent < STUCK_SECONDS {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the engine has not turned for {silent} s\n"),
        )
    }
}

async fn ready(State(facts): State<Facts>) -> impl IntoResponse {
    if facts.metrics.is_synced() {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "reading the cluster for the first time\n",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta, Utc};
    use std::sync::Mutex;

    /// A clock that stands still until it is moved.
    struct Still(Mutex<DateTime<Utc>>);

    impl Clock for Still {
        fn now(&self) -> DateTime<Utc> {
            *self.0.lock().expect("nobody panics")
        }
    }

    #[tokio::test]
    async fn an_engine_that_stops_turning_is_not_healthy() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).expect("an instant");
        let clock = Arc::new(Still(Mutex::new(start)));
        let facts = Facts {
            metrics: Metrics::new(),
            clock: clock.clone(),
        };
        let healthy = async |after: i64| {
            *clock.0.lock().expect("nobody panics") = start + TimeDelta::seconds(after);
            healthy(State(facts.clone())).await.into_response().status()
        };
        assert_eq!(healthy(0).await, StatusCode::OK, "it hasn't begun");
        facts.metrics.progress(start);
        assert_eq!(healthy(STUCK_SECONDS - 1).await, StatusCode::OK);
        assert_eq!(healthy(STUCK_SECONDS).await, StatusCode::SERVICE_UNAVAILABLE);
        // It turns again.
        facts.metrics.progress(start + TimeDelta::seconds(STUCK_SECONDS));
        assert_eq!(healthy(STUCK_SECONDS).await, StatusCode::OK);
        // The clock is set back: that is no standstill.
        assert_eq!(healthy(-3600).await, StatusCode::OK);
    }

    #[tokio::test]
    async fn it_is_ready_once_everything_was_listed_and_stays_so() {
        let facts = Facts {
            metrics: Metrics::new(),
            clock: Arc::new(Still(Mutex::new(DateTime::UNIX_EPOCH))),
        };
        let ready = async || ready(State(facts.clone())).await.into_response().status();
        assert_eq!(ready().await, StatusCode::SERVICE_UNAVAILABLE);
        facts.metrics.synced(true);
        assert_eq!(ready().await, StatusCode::OK);
        facts.metrics.synced(false);
        assert_eq!(
            ready().await,
            StatusCode::OK,
            "an API server that is away is no reason to be restarted"
        );
    }
}
