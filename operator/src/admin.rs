//! `/metrics`, `/healthz` and `/readyz`.

use crate::metrics::Metrics;
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The engine turns at least every ten minutes, however little there is to do. One that didn't is stuck.
const STUCK_SECONDS: u64 = 15 * 60;

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
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .with_state(metrics);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics and health are not served any more");
    }
}

async fn text(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.encode() {
        Ok(text) => (StatusCode::OK, [("content-type", TYPE)], text),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [("content-type", "text/plain")],
            String::new(),
        ),
    }
}

async fn healthy(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    // Before the first turn there is nothing to be stuck in.
    match metrics.standstill().filter(|silent| *silent >= STUCK_SECONDS) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(silent) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the engine has not turned for {silent} s\n"),
        ),
    }
}

async fn ready(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    if metrics.is_synced() {
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
    use std::time::Duration;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_stops_turning_is_not_healthy() {
        let metrics = Metrics::new();
        let healthy = async || healthy(State(metrics.clone())).await.into_response().status();
        assert_eq!(healthy().await, StatusCode::OK, "it hasn't begun");
        metrics.progress();
        advance(Duration::from_secs(STUCK_SECONDS - 1)).await;
        assert_eq!(healthy().await, StatusCode::OK);
        advance(Duration::from_secs(1)).await;
        assert_eq!(healthy().await, StatusCode::SERVICE_UNAVAILABLE);
        metrics.progress();
        assert_eq!(healthy().await, StatusCode::OK, "it turns again");
    }

    #[tokio::test]
    async fn it_is_ready_once_everything_was_listed_and_stays_so() {
        let metrics = Metrics::new();
        let ready = async || ready(State(metrics.clone())).await.into_response().status();
        assert_eq!(ready().await, StatusCode::SERVICE_UNAVAILABLE);
        metrics.synced(true);
        assert_eq!(ready().await, StatusCode::OK);
        metrics.synced(false);
        assert_eq!(
            ready().await,
            StatusCode::OK,
            "an API server that is away is no reason to be restarted"
        );
    }
}
