//! `/metrics`: what is already computed, by the names of the documentation. Labels are names of objects and words of closed
//! lists, never what a peer wrote, but for the certificate's own sanitised names.

use crate::{cluster::Key, controller::judge::Judged};
use certmon_core::{
    delivery::Outcome,
    finding::{Severity, Sighting},
    place::Place,
    reason::Reason,
    text::PeerText,
};
use certmon_crd::CertificateMonitorStatus;
use chrono::{DateTime, Utc};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The most series of certificates and of findings that one namespace has, each; more are counted only.
const SERIES_OF_NAMESPACE: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    sink_type: &'static str,
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source_kind: &'static str,
    reason: &'static str,
}

/// All metrics, and the two facts that health is about.
pub struct Metrics {
    registry: Registry,
    /// Writes of status.
    pub status_writes: Counter,
    /// Events that were dropped because a monitor had too many.
    pub dropped_events: Counter,
    /// Panics that were contained.
    pub panics: Counter,
    /// Stored objects that today's schema refuses.
    pub invalid_objects: Counter,
    /// Lists that began, the first of each watch included.
    pub watch_restarts: Counter,
    /// How long going over a monitor took, in seconds.
    pub reconcile_duration: Histogram,
    /// How long a look took, waiting for its turn included, in seconds.
    pub probe_duration: Histogram,
    /// 1 while the egress policy's file is in force as it stands, else 0.
    pub egress_policy_reloaded: Gauge,
    source_errors: Family<SourceLabels, Counter>,
    notifications: Family<DeliveryLabels, Counter>,
    monitors: Arc<Mutex<HashMap<Key, MonitorSeries>>>,
    began: tokio::time::Instant,
    progress: AtomicU64,
    synced: AtomicBool,
}

/// The series of one monitor, made anew whenever it is gone over.
#[derive(Debug, Default)]
struct MonitorSeries {
    uid: Box<str>,
    evaluated: f64,
    counts: [(&'static str, u32); 5],
    conditions: Vec<(String, &'static str)>,
    certificates: Vec<CertificateSeries>,
    findings: Vec<(Place, &'static str, Severity)>,
    probes: BTreeMap<(String, u16), bool>,
    last_success: BTreeMap<String, f64>,
}

#[derive(Debug)]
struct CertificateSeries {
    place: Place,
    subject: PeerText,
    /// The fingerprint's first bytes: what the label shows.
    fingerprint: [u8; 6],
    not_before: f64,
    not_after: f64,
}

impl CertificateSeries {
    fn labels(&self, key: &Key) -> Vec<(&'static str, String)> {
        let mut labels = at(key, &self.place);
        labels.push(("subject", self.subject.to_string()));
        labels.push(("fingerprint", hex::encode(self.fingerprint)));
        labels
    }
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("certmon");
        let (status_writes, dropped_events) = (Counter::default(), Counter::default());
        let (panics, invalid_objects) = (Counter::default(), Counter::default());
        let notifications = Family::<DeliveryLabels, Counter>::default();
        let watch_restarts = Counter::default();
        let reconcile_duration = Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
        let probe_duration = Histogram::new(exponential_buckets(0.005, 2.0, 13));
        let source_errors = Family::<SourceLabels, Counter>::default();
        registry.register(
            "watch_restarts",
            "Lists that began, the first of each watch included",
            watch_restarts.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "How long going over a monitor took",
            reconcile_duration.clone(),
        );
        registry.register(
            "probe_duration_seconds",
            "How long a look at a target took",
            probe_duration.clone(),
        );
        registry.register(
            "source_errors",
            "How often a watch stopped working",
            source_errors.clone(),
        );
        registry.register("status_writes", "Writes of a monitor's status", status_writes.clone());
        registry.register(
            "events_dropped",
            "Events that were dropped past a monitor's burst",
            dropped_events.clone(),
        );
        registry.register("panics", "Panics that were contained", panics.clone());
        registry.register(
            "invalid_objects",
            "Stored objects that the schema refuses",
            invalid_objects.clone(),
        );
        registry.register(
            "notifications",
            "Attempts to deliver a message, by outcome",
            notifications.clone(),
        );
        let egress_policy_reloaded = Gauge::default();
        egress_policy_reloaded.set(1);
        registry.register(
            "egress_policy_last_reload_successful",
            "1 while the egress policy is in force as its file stands; 0 while the file is broken, empty or gone and the last good one holds",
            egress_policy_reloaded.clone(),
        );
        let info = prometheus_client::metrics::info::Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of certmon", info);
        let monitors = Arc::new(Mutex::new(HashMap::new()));
        registry.register_collector(Box::new(MonitorCollector(monitors.clone())));
        Arc::new(Self {
            registry,
            status_writes,
            dropped_events,
            panics,
            invalid_objects,
            watch_restarts,
            reconcile_duration,
            probe_duration,
            egress_policy_reloaded,
            source_errors,
            notifications,
            monitors,
            began: tokio::time::Instant::now(),
            progress: AtomicU64::new(u64::MAX),
            synced: AtomicBool::new(false),
        })
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// Never: writing to memory doesn't fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The engine has turned.
    pub fn progress(&self) {
        let seconds = self.began.elapsed().as_secs();
        self.progress.store(seconds, Ordering::Relaxed);
    }

    /// For how long the engine has not turned, in whole seconds; `None` before the first turn. By the monotonic clock: a wall
    /// clock that is set forward is no standstill.
    #[must_use]
    pub fn standstill(&self) -> Option<u64> {
        let last = self.progress.load(Ordering::Relaxed);
        (last != u64::MAX).then(|| self.began.elapsed().as_secs().saturating_sub(last))
    }

    /// Whether every watch was listed once. It stays true: an API server that is away later is no reason to be restarted.
    pub fn synced(&self, synced: bool) {
        if synced {
            self.synced.store(true, Ordering::Relaxed);
        }
    }

    /// See [`Self::synced`].
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    /// A monitor was gone over.
    pub(crate) fn observe(
        &self,
        key: &Key,
        uid: &str,
        status: &CertificateMonitorStatus,
        judged: &Judged,
        sightings: &[Sighting],
        now: DateTime<Utc>,
    ) {
        let counts = status.certificates.unwrap_or_default();
        let mut monitors = self.lock();
        let series = monitors.entry(key.clone()).or_default();
        series.uid = uid.into();
        series.evaluated = seconds(now);
        series.counts = [
            ("ok", counts.ok),
            ("warning", counts.warning),
            ("critical", counts.critical),
            ("unknown", counts.unknown),
            ("silenced", counts.silenced),
        ];
        let word = |status: &str| match status {
            "True" => "true",
            "False" => "false",
            _ => "unknown",
        };
        series.conditions = status
            .conditions
            .iter()
            .map(|condition| (condition.type_.clone(), word(&condition.status)))
            .collect();
        let leaves = judged
            .places
            .iter()
            .filter_map(|place| Some((&place.place, place.leaf.as_ref()?)));
        series.certificates = leaves
            .take(SERIES_OF_NAMESPACE)
            .map(|(place, leaf)| CertificateSeries {
                place: place.clone(),
                subject: leaf.name.clone(),
                fingerprint: leaf.fingerprint.0.first_chunk().copied().unwrap_or_default(),
                not_before: seconds(leaf.not_before),
                not_after: seconds(leaf.not_after),
            })
            .collect();
        series.findings = sightings
            .iter()
            .take(SERIES_OF_NAMESPACE)
            .map(|sighting| {
                (
                    sighting.place.clone(),
                    Reason::from(sighting.finding).name(),
                    sighting.severity,
                )
            })
            .collect();
    }

    /// A watch stopped working.
    pub fn source_failed(&self, source_kind: &'static str, reason: Reason) {
        let labels = SourceLabels {
            source_kind,
            reason: reason.name(),
        };
        self.source_errors.get_or_create(&labels).inc();
    }

    /// A look came back.
    pub(crate) fn probed(&self, key: &Key, place: &Place, success: bool) {
        if let Some((host, port)) = place.host_port() {
            let mut monitors = self.lock();
            monitors
                .entry(key.clone())
                .or_default()
                .probes
                .insert((host.to_string(), port), success);
        }
    }

    /// A delivery ended.
    pub fn delivered(&self, sink_type: &'static str, outcome: &Outcome, key: &Key, sink: &str, now: DateTime<Utc>) {
        let result = match outcome {
            Outcome::Delivered { .. } => "delivered".to_owned(),
            Outcome::Failed(failure) => Reason::from(failure.class).name().to_owned(),
        };
        self.notifications
            .get_or_create(&DeliveryLabels { sink_type, result })
            .inc();
        if matches!(outcome, Outcome::Delivered { .. }) {
            let mut monitors = self.lock();
            monitors
                .entry(key.clone())
                .or_default()
                .last_success
                .insert(sink.to_owned(), seconds(now));
        }
    }

    /// A monitor is gone.
    pub(crate) fn forget(&self, key: &Key, uid: &str) {
        let mut monitors = self.lock();
        if monitors
            .get(key)
            .is_some_and(|series| &*series.uid == uid || series.uid.is_empty())
        {
            monitors.remove(key);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, MonitorSeries>> {
        self.monitors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds fit a double's 53 bits for a hundred million years"
)]
fn seconds(instant: DateTime<Utc>) -> f64 {
    instant.timestamp() as f64
}

/// Writes the monitors' series when they are asked for.
#[derive(Debug)]
struct MonitorCollector(Arc<Mutex<HashMap<Key, MonitorSeries>>>);

/// One value and its labels.
type Sample = (Vec<(&'static str, String)>, f64);

impl Collector for MonitorCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let monitors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<(&Key, &MonitorSeries)> = monitors.iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        let mut family = |name: &str, help: &str, samples: &dyn Fn(&Key, &MonitorSeries) -> Vec<Sample>| {
            let mut descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (key, series) in &sorted {
                for (labels, value) in samples(key, series) {
                    let labels: Vec<(&str, &str)> =
                        labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                    ConstGauge::new(value).encode(descriptor.encode_family(&labels)?)?;
                }
            }
            Ok::<(), fmt::Error>(())
        };
        family("certificates", "Certificates of a monitor, by state", &|key, series| {
            let each = series
                .counts
                .iter()
                .map(|(state, count)| (of(key, &[("state", state)]), f64::from(*count)));
            each.collect()
        })?;
        family(
            "monitor_condition",
            "Conditions of a monitor; 1 for the status that holds",
            &|key, series| {
                let each = series
                    .conditions
                    .iter()
                    .map(|(type_, status)| (of(key, &[("type", type_), ("status", status)]), 1.0));
                each.collect()
            },
        )?;
        family(
            "monitor_last_evaluation_timestamp_seconds",
            "When a monitor was gone over last",
            &|key, series| vec![(of(key, &[]), series.evaluated)],
        )?;
        family(
            "certificate_not_after_timestamp_seconds",
            "When a certificate ends",
            &|key, series| {
                series
                    .certificates
                    .iter()
                    .map(|one| (one.labels(key), one.not_after))
                    .collect()
            },
        )?;
        family(
            "certificate_not_before_timestamp_seconds",
            "When a certificate begins",
            &|key, series| {
                series
                    .certificates
                    .iter()
                    .map(|one| (one.labels(key), one.not_before))
                    .collect()
            },
        )?;
        family("certificate_finding", "1 while a finding lasts", &|key, series| {
            let mut counted: BTreeMap<Vec<(&'static str, String)>, f64> = BTreeMap::new();
            for (place, finding, severity) in &series.findings {
                let mut labels = at(key, place);
                labels.push(("finding", (*finding).to_owned()));
                labels.push(("severity", severity.to_string().to_lowercase()));
                counted.insert(labels, 1.0);
            }
            counted.into_iter().collect()
        })?;
        family(
            "probe_success",
            "Whether the last look at a target came to a certificate",
            &|key, series| {
                let each = series.probes.iter().map(|((host, port), success)| {
                    (
                        of(key, &[("host", host), ("port", &port.to_string())]),
                        f64::from(u8::from(*success)),
                    )
                });
                each.collect()
            },
        )?;
        family(
            "notification_last_success_timestamp_seconds",
            "When a sink accepted a message last",
            &|key, series| {
                series
                    .last_success
                    .iter()
                    .map(|(sink, at)| (of(key, &[("sink", sink)]), *at))
                    .collect()
            },
        )
    }
}

fn of(key: &Key, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut labels = vec![
        ("namespace", key.namespace.to_string()),
        ("monitor", key.name.to_string()),
    ];
    labels.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    labels
}

fn at(key: &Key, place: &Place) -> Vec<(&'static str, String)> {
    let (kind, name) = place.object().unwrap_or(("", ""));
    let data_key = match place {
        Place::Secret { key, .. } => key.to_string(),
        _ => String::new(),
    };
    let host = place
        .host_port()
        .map(|(host, port)| format!("{host}:{port}"))
        .unwrap_or_default();
    of(
        key,
        &[("kind", kind), ("name", name), ("key", &data_key), ("host", &host)],
    )
}
