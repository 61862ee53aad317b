//! A strict parser of Prometheus' text format. It panics at everything that promtool reports.

use std::collections::{BTreeMap, BTreeSet};

/// All samples of a scrape, by their name with labels.
pub(crate) struct Scrape {
    samples: BTreeMap<String, f64>,
}

/// A metric family during parsing.
struct Family {
    name: String,
    kind: String,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    /// Parses a text, and panics with the line of an error.
    pub(crate) fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut names = BTreeSet::new();
        let mut samples = BTreeMap::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let help = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("no HELP: {line}"));
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.') && help.len() > 10, "{line}");
            assert!(names.insert(name.to_owned()), "twice: {name}");
            let line = lines.next().unwrap();
            let kind = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_prefix(name));
            let kind = kind.unwrap_or_else(|| panic!("no TYPE of {name}: {line}")).trim();
            let mut family = Family { name: name.into(), kind: kind.into(), samples: vec![] };
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let sample = sample(line);
                let key = line.rsplit_once(' ').unwrap().0.to_owned();
                assert!(samples.insert(key, sample.value).is_none(), "twice: {line}");
                family.samples.push(sample);
            }
            family.check();
        }
        Self { samples }
    }

    /// Returns the value of `name{labels}`, in the spelling of the text.
    pub(crate) fn get(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("no {sample}"))
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let value = value.parse().unwrap_or_else(|why| panic!("{line}: {why}"));
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
    };
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(!name.is_empty() && name.chars().all(is_name), "{line}");
    let pair = |pair: &str| {
        let (label, text) = pair.split_once('=').unwrap();
        assert!(label.chars().all(is_name) && !label.starts_with("__"), "{line}");
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap();
        assert!(!text.contains(['"', '\\', '\n']), "{line}");
        (label.to_owned(), text.to_owned())
    };
    let labels: Vec<_> = labels.split_terminator(',').map(pair).collect();
    let names: BTreeSet<_> = labels.iter().map(|(label, _)| label).collect();
    assert_eq!(names.len(), labels.len(), "{line}");
    Sample { name: name.into(), labels, value }
}

impl Family {
    /// Checks the applicable rules of `promtool check metrics`, and those of a histogram.
    fn check(&self) {
        let Self { name, kind, samples } = self;
        for unit in ["_ms", "_us", "_milliseconds", "_microseconds", "_minutes", "_kilobytes"] {
            assert!(!name.contains(unit), "{name}: seconds and bytes");
        }
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}: {kind}");
        match kind.as_str() {
            "histogram" => self.check_histogram(),
            "counter" | "gauge" => {
                assert!(!samples.is_empty(), "{name}");
                for sample in samples {
                    assert_eq!(&sample.name, name);
                    assert!(sample.value.is_finite(), "{name}");
                    assert!(kind == "gauge" || sample.value >= 0.0, "{name}");
                    assert!(sample.labels.iter().all(|(label, _)| label != "le"), "{name}");
                }
            }
            _ => panic!("{name} is a {kind}"),
        }
    }

    fn check_histogram(&self) {
        let Self { name, samples, .. } = self;
        let mut rest = samples.iter().peekable();
        while rest.peek().is_some() {
            let (mut bound, mut count) = (f64::NEG_INFINITY, 0.0);
            let mut of = None;
            while let Some(bucket) = rest.next_if(|s| s.name == format!("{name}_bucket")) {
                let (le, labels) = bucket.labels.split_last().unwrap();
                assert_eq!(le.0, "le", "{name}");
                let le: f64 = le.1.replace("+Inf", "inf").parse().unwrap();
                assert!(le > bound && bucket.value >= count, "{name}: {le}");
                (bound, count) = (le, bucket.value);
                assert!(of.is_none_or(|of| of == labels), "{name}: one series at a time");
                of = Some(labels);
            }
            assert!(bound.is_infinite(), "{name}: the last bound is +Inf");
            let [sum, all] = [rest.next().unwrap(), rest.next().unwrap()];
            assert_eq!(sum.name, format!("{name}_sum"));
            assert_eq!(all.name, format!("{name}_count"));
            assert!([sum, all].iter().all(|s| Some(&s.labels[..]) == of), "{name}");
            assert_eq!(all.value.to_bits(), count.to_bits(), "{name}");
            assert!(sum.value >= 0.0, "{name}");
        }
    }
}
