//! What `/metrics` says, in Prometheus' text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! To count and to time takes some atomic additions and no memory; all else is done when somebody
//! asks.

mod histogram;
mod process;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hax_core::base::fact::{Fact, Report as _};
use hax_core::base::time::Instant;
use hax_core::bridge::View;

use crate::host::clock::Clock;
use crate::observe::facts::{self, Counters};
use histogram::Histogram;
use text::Text;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The methods that have series of their own; the last stands for all others.
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "other"];

/// The HTTP statuses that have series of their own; the last stands for all others.
const CODES: [u16; 17] =
    [200, 400, 401, 404, 405, 408, 409, 413, 414, 417, 431, 500, 501, 502, 503, 504, 0];

/// Of HTTP requests these have their series from the start: an alert sees no increase of what begins to
/// exist with its first count. The others would be a thousand series of nothing.
const FROM_THE_START: ([&str; 2], [u16; 4]) = (["GET", "POST"], [200, 401, 404, 503]);

/// What Consul is asked, by the path below `/v1/`; the last stands for all others.
const KINDS: [&str; 7] = ["agent", "catalog", "health", "kv", "session", "txn", "other"];

/// All that is counted and timed.
#[derive(Debug)]
pub struct Metrics {
    /// How often each kind of fact was seen.
    pub facts: Counters,
    clock: Clock,
    latencies: [Histogram; 3],
    http: [[Histogram; CODES.len()]; METHODS.len()],
    consul: [[Histogram; KINDS.len()]; 2],
    calls: AtomicU64,
    received: AtomicU64,
    gauges: [AtomicU64; GAUGES.len()],
}

/// The gauges that a [`View`] gives, in the order in which [`Metrics::observe`] stores them.
const GAUGES: [(&str, &str); 8] = [
    ("hax_ready", "Whether hax serves all that it is for (1) or not (0), as /readyz."),
    ("hax_consul_answers", "Whether Consul answers (1) or not (0)."),
    ("hax_leading", "Whether this node leads (1) or not (0)."),
    ("hax_stopping", "Whether a stop has begun (1) or not (0)."),
    ("hax_links", "HA links to Motr processes, those whose process is away for now included."),
    ("hax_lanes", "Processes with events that Consul does not hold yet."),
    ("hax_entrypoints_waiting", "Entrypoint requests that wait for their answer."),
    ("hax_questions_waiting", "Questions for states that wait for their answer."),
];

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        use std::array::from_fn;
        Self {
            facts: Counters::default(),
            clock,
            latencies: Default::default(),
            http: from_fn(|_| from_fn(|_| Histogram::default())),
            consul: Default::default(),
            calls: AtomicU64::new(0),
            received: AtomicU64::new(0),
            gauges: Default::default(),
        }
    }

    /// The moment from which something is timed.
    #[must_use]
    pub fn begin(&self) -> Instant {
        self.clock.now().mono
    }

    fn since(&self, begun: Instant) -> Duration {
        self.clock.now().mono.since(begun)
    }

    /// Logs a fact, counts it and takes the duration that it says.
    pub fn record(&self, fact: &Fact) {
        self.facts.record(fact);
        if let Some((nth, took)) = fact.took() {
            self.latencies[nth].observe(took);
        }
    }

    /// Takes over what the bridge believes.
    pub fn observe(&self, view: &View) {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let values = [
            u64::from(view.is_ready()),
            u64::from(view.consul),
            u64::from(view.leads),
            u64::from(view.stopping),
            count(view.links),
            count(view.lanes),
            count(view.entries),
            count(view.questions),
        ];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.store(value, Ordering::Relaxed);
        }
    }

    /// An HTTP request that came at `begun` has its answer.
    pub fn http_answered(&self, method: &str, code: u16, begun: Instant) {
        let method = position(&METHODS, |name| *name == method);
        let code = position(&CODES, |known| *known == code);
        self.http[method][code].observe(self.since(begun));
    }

    /// A call to Consul begins.
    #[must_use]
    pub fn call(&self, target: &str) -> Call<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let path = target.strip_prefix("/v1/").unwrap_or(target);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let first = path.split('/').next().unwrap_or(path);
        let kind = position(&KINDS, |name| *name == first);
        let blocking = query.split('&').any(|part| part.starts_with("index="));
        let took = &self.consul[usize::from(blocking)][kind];
        Call { metrics: self, took, begun: self.begin() }
    }

    /// All of it as text; `inbox` is how many inputs wait for the machine.
    #[must_use]
    pub fn render(&self, inbox: usize) -> String {
        let mut text = Text::default();
        text.family("hax_build_info", "gauge", "The version that runs, as a label; always 1.");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        text.sample("hax_build_info", &version, 1);
        for ((name, help), value) in GAUGES.iter().zip(&self.gauges) {
            text.family(name, "gauge", help);
            text.sample(name, &[], value.load(Ordering::Relaxed));
        }
        text.family("hax_inbox_inputs", "gauge", "Inputs that wait for the machine, 512 at most.");
        text.sample("hax_inbox_inputs", &[], inbox);
        let calls = "Requests to Consul without an answer yet, blocking queries included.";
        text.family("hax_consul_calls_in_flight", "gauge", calls);
        text.sample("hax_consul_calls_in_flight", &[], self.calls.load(Ordering::Relaxed));
        let bytes = "Bytes of the bodies of Consul's answers.";
        text.family("hax_consul_received_bytes_total", "counter", bytes);
        let received = self.received.load(Ordering::Relaxed);
        text.sample("hax_consul_received_bytes_total", &[], received);
        let facts = "What happened, by the kind of its log line.";
        text.family("hax_facts_total", "counter", facts);
        for (kind, n) in self.facts.iter() {
            let labels = [("fact", kind.name()), ("level", facts::level(kind))];
            text.sample("hax_facts_total", &labels, n);
        }
        self.durations(&mut text);
        process::render(&mut text);
        text.finish()
    }

    fn durations(&self, text: &mut Text) {
        let latencies = [
            ("hax_entrypoint_duration_seconds", "From an entrypoint request to its answer."),
            (
                "hax_process_event_duration_seconds",
                "From a process event's arrival to its commit in Consul.",
            ),
            ("hax_nvec_get_duration_seconds", "From a question for states to its answer."),
        ];
        for ((name, help), histogram) in latencies.into_iter().zip(&self.latencies) {
            text.family(name, "histogram", help);
            histogram.render(text, name, &[]);
        }
        let name = "hax_consul_request_duration_seconds";
        let help = "Requests to Consul, those without an answer included, by the first part of the \
            path; blocking queries, which wait for a change, apart.";
        text.family(name, "histogram", help);
        for (blocking, kinds) in ["false", "true"].into_iter().zip(&self.consul) {
            for (kind, histogram) in KINDS.into_iter().zip(kinds) {
                histogram.render(text, name, &[("kind", kind), ("blocking", blocking)]);
            }
        }
        let name = "hax_http_request_duration_seconds";
        text.family(name, "histogram", "HTTP requests to hax, from their head to their answer.");
        for (method, codes) in METHODS.into_iter().zip(&self.http) {
            let is_shown = |(code, histogram): &(u16, &Histogram)| {
                let (methods, codes) = FROM_THE_START;
                histogram.is_used() || methods.contains(&method) && codes.contains(code)
            };
            for (code, histogram) in CODES.into_iter().zip(codes).filter(is_shown) {
                let code = if code == 0 { "other".into() } else { code.to_string() };
                histogram.render(text, name, &[("method", method), ("code", &code)]);
            }
        }
    }
}

/// Where it is, or else the last place.
fn position<T>(known: &[T], is: impl FnMut(&T) -> bool) -> usize {
    known.iter().position(is).unwrap_or(known.len() - 1)
}

/// A call to Consul that is in flight until this is dropped.
#[derive(Debug)]
pub struct Call<'a> {
    metrics: &'a Metrics,
    took: &'a Histogram,
    begun: Instant,
}

impl Call<'_> {
    /// It was answered with so many bytes.
    pub fn received(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.metrics.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It has its answer, or will have none. One that is cancelled has no duration.
    pub fn done(&self) {
        self.took.observe(self.metrics.since(self.begun));
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.metrics.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use hax_core::base::config::Config;
    use hax_core::base::fid::Fid;
    use hax_core::bridge::Bridge;

    use super::*;

    #[test]
    fn f42_what_alerts_look_at_is_there_before_its_first_count() {
        let text = Metrics::new(Clock::new()).render(0);
        for series in [
            "hax_facts_total{fact=\"ProcessDied\",level=\"warn\"} 0",
            "hax_facts_total{fact=\"MessageFatal\",level=\"error\"} 0",
            "hax_http_request_duration_seconds_count{method=\"GET\",code=\"401\"} 0",
            "hax_http_request_duration_seconds_count{method=\"POST\",code=\"401\"} 0",
            "hax_consul_request_duration_seconds_bucket{kind=\"kv\",blocking=\"false\",le=\"+Inf\"} 0",
            "hax_consul_request_duration_seconds_count{kind=\"txn\",blocking=\"false\"} 0",
            "hax_entrypoint_duration_seconds_bucket{le=\"+Inf\"} 0",
            "hax_ready 0",
        ] {
            assert!(text.lines().any(|line| line == series), "{series}: {text}");
        }
        assert!(!text.contains("code=\"418\"") && !text.contains("method=\"HEAD\""));
    }

    #[test]
    fn what_happened_is_in_the_text() {
        let metrics = Metrics::new(Clock::new());
        metrics.record(&Fact::Ready {});
        let begun = metrics.begin();
        metrics.http_answered("GET", 200, begun);
        metrics.http_answered("PURGE", 418, begun);
        let mut view = Bridge::new(Config::new(Fid::process(1), "ssu1", 1)).view();
        (view.ready, view.consul, view.leads) = (true, true, true);
        (view.links, view.entries) = (3, 7);
        metrics.observe(&view);
        let call = metrics.call("/v1/kv/leader?consistent");
        call.received(5);
        call.done();
        drop(call);
        metrics.call("/v1/kv/m0conf/?recurse&index=7&wait=60s").done();
        drop(metrics.call("/v1/session/create"));
        let in_flight = metrics.call("/v1/txn");
        let text = metrics.render(5);
        drop(in_flight);
        for line in [
            "hax_facts_total{fact=\"Ready\",level=\"info\"} 1",
            "hax_facts_total{fact=\"ConsulFailed\",level=\"warn\"} 0",
            "hax_ready 1",
            "hax_leading 1",
            "hax_consul_answers 1",
            "hax_links 3",
            "hax_entrypoints_waiting 7",
            "hax_inbox_inputs 5",
            "hax_consul_calls_in_flight 1",
            "hax_consul_received_bytes_total 5",
            "hax_http_request_duration_seconds_count{method=\"GET\",code=\"200\"} 1",
            "hax_http_request_duration_seconds_count{method=\"other\",code=\"other\"} 1",
            "hax_consul_request_duration_seconds_count{kind=\"kv\",blocking=\"false\"} 1",
            "hax_consul_request_duration_seconds_count{kind=\"kv\",blocking=\"true\"} 1",
            "hax_entrypoint_duration_seconds_count 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        let cancelled =
            "hax_consul_request_duration_seconds_count{kind=\"session\",blocking=\"false\"} 0";
        assert!(text.contains(cancelled), "a cancelled call has no duration");
        assert!(metrics.render(0).contains("hax_consul_calls_in_flight 0\n"));
    }
}
