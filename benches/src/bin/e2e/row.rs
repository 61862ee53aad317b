//! One figure of the table.

use serde_json::{Value, json};

/// One figure.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The ceiling of the same run, in the same unit.
    pub(crate) ceiling: Option<f64>,
    /// The number of hax's requests to Consul during the measurement.
    pub(crate) consul_requests: u64,
    pub(crate) target: &'static str,
    pub(crate) ok: bool,
    /// The values by the number of nodes.
    pub(crate) curve: Vec<(u64, f64)>,
    /// Additional information.
    pub(crate) more: String,
}

/// The head of the table.
pub(crate) const HEAD: &str = "\
| what | value | ceiling | ratio | Consul requests | target | ok | more |
|---|---|---|---|---|---|---|---|";

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.ceiling.map(|ceiling| self.value / ceiling)
    }

    pub(crate) fn json(&self) -> Value {
        let mut row = json!({
            "value": self.value, "unit": self.unit, "ceiling": self.ceiling, "ratio": self.ratio(),
            "consul_requests": self.consul_requests, "target": self.target, "ok": self.ok,
            "more": self.more,
        });
        if !self.curve.is_empty() {
            row["curve"] = json!(self.curve);
        }
        row
    }

    pub(crate) fn line(&self, program: &str) -> String {
        let number = |n: Option<f64>| n.map_or_else(|| "–".to_owned(), |n| format!("{n:.2}"));
        let ok = if self.ok { "yes" } else { "NO" };
        format!(
            "| {program}{} | {:.2} {} | {} | {} | {} | {} | {ok} | {} |",
            self.name,
            self.value,
            self.unit,
            number(self.ceiling),
            number(self.ratio()),
            self.consul_requests,
            self.target,
            self.more
        )
    }
}
