//! Settings as text.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::Settings;
use super::consul::ConsulSettings;
use super::secret::SecretSource;
#[cfg(feature = "services")]
use super::services::ServicesSettings;

/// The output of `--check`: a configuration file with the effective values.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        consul(f, &self.consul)?;
        let from_consul = [
            ("node", self.node.clone()),
            ("fid", self.fid.map(|fid| fid.to_string())),
            ("http", self.http.at.as_ref().map(ToString::to_string)),
            ("motr_endpoint", self.motr.endpoint.clone()),
        ];
        for (key, value) in from_consul {
            match value {
                Some(value) => writeln!(f, "{key} = {}", quoted(&value))?,
                None => writeln!(f, "# {key}: Consul says it")?,
            }
        }
        path(f, "http_cert", self.http.cert.as_deref())?;
        path(f, "http_key", self.http.key.as_deref())?;
        secret(f, "http_token_file", self.http.token.as_ref())?;
        writeln!(f, "motr = \"{}\"", word(self.motr.transport))?;
        path(f, "libmotr", self.motr.library.as_deref())?;
        writeln!(f, "link_grace = {}", span(self.motr.link_grace))?;
        writeln!(f, "state_dir = {}", quoted(&self.motr.state_dir.to_string()))?;
        writeln!(f, "end_links = {}", self.motr.end_links)?;
        writeln!(f, "any_process = {}", self.motr.any_process)?;
        writeln!(f, "silence = {}", span(self.bridge.silence))?;
        writeln!(f, "bq = \"{}\"", word(self.bridge.bq))?;
        let on_unexpected_message = word(self.bridge.on_unexpected_message);
        writeln!(f, "on_unexpected_message = \"{on_unexpected_message}\"")?;
        writeln!(f, "no_elect = {}", !self.bridge.elect)?;
        writeln!(f, "filesystem_stats = {}", span(self.bridge.filesystem_stats))?;
        writeln!(f, "byte_counts = {}", span(self.bridge.byte_counts))?;
        writeln!(f, "drain = {}", span(self.bridge.drain))?;
        writeln!(f, "http_body_max = {}", size(self.http.body_max))?;
        match self.http.bodies_max {
            Some(max) => writeln!(f, "http_bodies_max = {}", size(max))?,
            None => writeln!(f, "# http_bodies_max: the program's default")?,
        }
        writeln!(f, "http_connections_max = {}", self.http.connections_max)?;
        writeln!(f, "motr_connections_max = {}", self.motr.connections_max)?;
        #[cfg(feature = "services")]
        services(f, &self.services)?;
        writeln!(f, "log = \"{}\"", word(self.log.format))?;
        writeln!(f, "log_level = \"{}\"", word(self.log.level))?;
        path(f, "journal", self.journal.path.as_deref())?;
        writeln!(f, "journal_max = {}", size(self.journal.max))
    }
}

/// Returns the name of a value in flags and files.
fn word(value: impl clap::ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The same text as `Display`, which omits the token.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns a duration in its largest unit.
fn span(time: Duration) -> String {
    let ms = time.as_millis();
    match (ms % 60_000, ms % 1_000) {
        (0, _) if ms > 0 => format!("\"{}m\"", ms / 60_000),
        (_, 0) => format!("\"{}s\"", ms / 1_000),
        _ => format!("\"{ms}ms\""),
    }
}

/// Returns a size in its largest unit.
fn size(bytes: usize) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = unit.into_iter().find(|(_, shift)| bytes.is_multiple_of(1 << shift));
    unit.map_or_else(
        || format!("\"{bytes}\""),
        |(unit, shift)| format!("\"{}{unit}\"", bytes >> shift),
    )
}

/// Returns a basic string of TOML, whose escapes differ from Rust's.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn path(f: &mut fmt::Formatter<'_>, key: &str, path: Option<&Path>) -> fmt::Result {
    match path {
        Some(path) => writeln!(f, "{key} = {}", quoted(&path.display().to_string())),
        None => Ok(()),
    }
}

/// Writes the source of a secret instead of the secret.
fn secret(f: &mut fmt::Formatter<'_>, key: &str, source: Option<&SecretSource>) -> fmt::Result {
    match source {
        Some(SecretSource::File(_, file)) => path(f, key, Some(file)),
        Some(variable) => writeln!(f, "# {key}: the secret itself is in {variable}"),
        None => writeln!(f, "# {key}: none"),
    }
}

#[cfg(feature = "services")]
fn services(f: &mut fmt::Formatter<'_>, services: &ServicesSettings) -> fmt::Result {
    writeln!(f, "services = \"{}\"", if services.on { "on" } else { "off" })?;
    let labels = services.labels.iter().map(|(key, value)| quoted(&format!("{key}={value}")));
    writeln!(f, "label = [{}]", labels.collect::<Vec<_>>().join(", "))?;
    path(f, "keeper", Some(&services.keeper))?;
    let allowed = services.allow_exec.iter().map(|path| quoted(&path.display().to_string()));
    writeln!(f, "allow_exec = [{}]", allowed.collect::<Vec<_>>().join(", "))?;
    path(f, "http_socket", services.socket.as_deref().or_else(|| Some(Path::new("none"))))?;
    let instances = services.instance_socket.as_deref();
    path(f, "instance_socket", instances.or_else(|| Some(Path::new("none"))))?;
    path(f, "rules", services.rules.as_deref().or_else(|| Some(Path::new("none"))))?;
    writeln!(f, "node_down = {}", span(services.node_down))
}

fn consul(f: &mut fmt::Formatter<'_>, consul: &ConsulSettings) -> fmt::Result {
    writeln!(f, "consul = {}", quoted(&consul.url.to_string()))?;
    if let Some(datacenter) = &consul.datacenter {
        writeln!(f, "consul_datacenter = \"{datacenter}\"")?;
    }
    secret(f, "consul_token_file", consul.token.as_ref())?;
    secret(f, "consul_auth_file", consul.auth.as_ref())?;
    let tls = &consul.tls;
    path(f, "consul_ca_file", tls.ca_file.as_deref())?;
    path(f, "consul_ca_dir", tls.ca_dir.as_deref())?;
    path(f, "consul_cert", tls.cert.as_deref())?;
    path(f, "consul_key", tls.key.as_deref())?;
    if let Some(name) = &tls.server_name {
        writeln!(f, "consul_server_name = {}", quoted(name))?;
    }
    writeln!(f, "consul_tls_verify = {}", tls.verify)?;
    writeln!(f, "consul_timeout = {}", span(consul.timeout))?;
    writeln!(f, "consul_answer_max = {}", size(consul.answer_max))
}
