//! The address of Consul and hax's credentials: hax's own settings and, as a fallback, the variables of
//! Consul's own tools (<https://developer.hashicorp.com/consul/commands#environment-variables>).

use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use super::flags::Flags;
use super::secret::{Secret, SecretSource};
use super::url::{ConsulUrl, Datacenter};
use super::values::BadValue;

/// The authentication of a TLS server, and our own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Certificates to trust, in PEM; without this and `ca_dir` the machine's certificates are trusted.
    pub ca_file: Option<PathBuf>,
    /// A directory of such files.
    pub ca_dir: Option<PathBuf>,
    /// Our own certificate in PEM.
    pub cert: Option<PathBuf>,
    /// Its private key in PEM.
    pub key: Option<PathBuf>,
    /// The required name of the server's certificate; by default the URL's host.
    pub server_name: Option<String>,
    /// Whether the server's certificate is verified.
    pub verify: bool,
}

/// The settings of the Consul client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulSettings {
    /// The address of Consul.
    pub url: ConsulUrl,
    /// The datacenter of requests; by default the agent's own.
    pub datacenter: Option<Datacenter>,
    /// The ACL token.
    pub token: Option<SecretSource>,
    /// `USER:PASSWORD` of HTTP's basic authentication, for a proxy before Consul.
    pub auth: Option<SecretSource>,
    /// The TLS settings for `https://`.
    pub tls: ClientTls,
    /// The timeout of one request; a blocking query has it in addition to its wait.
    pub timeout: Duration,
    /// The maximum length of a response, in bytes.
    pub answer_max: usize,
}

/// Merges, in this order: the flag (or its variable), the file, Consul's variable, the default. Invalid
/// values are added to `wrong`.
pub(crate) fn merge(
    flags: &Flags,
    file: &Flags,
    env: &impl Fn(&'static str) -> Option<String>,
    wrong: &mut Vec<Error>,
) -> ConsulSettings {
    let path = |flag: &Option<PathBuf>, file: &Option<PathBuf>, name| {
        flag.clone().or_else(|| file.clone()).or_else(|| env(name).map(PathBuf::from))
    };
    let tls = ClientTls {
        ca_file: path(&flags.consul_ca_file, &file.consul_ca_file, "CONSUL_CACERT"),
        ca_dir: path(&flags.consul_ca_dir, &file.consul_ca_dir, "CONSUL_CAPATH"),
        cert: path(&flags.consul_cert, &file.consul_cert, "CONSUL_CLIENT_CERT"),
        key: path(&flags.consul_key, &file.consul_key, "CONSUL_CLIENT_KEY"),
        server_name: flags
            .consul_server_name
            .clone()
            .or_else(|| file.consul_server_name.clone())
            .or_else(|| env("CONSUL_TLS_SERVER_NAME")),
        verify: match flags.consul_tls_verify.or(file.consul_tls_verify) {
            Some(verify) => verify,
            None => kept(switch(env, "CONSUL_HTTP_SSL_VERIFY"), wrong).flatten().unwrap_or(true),
        },
    };
    let (from, other) = match (&tls.cert, &tls.key) {
        (Some(_), None) => ("--consul-cert", "--consul-key"),
        (None, Some(_)) => ("--consul-key", "--consul-cert"),
        _ => ("", ""),
    };
    if !from.is_empty() {
        let why = "a certificate and its key are given together or not at all";
        let why = BadValue::new(format!("{why}: give {other} too"));
        wrong.push(Error::Value { from, why });
    }
    let token = source(
        &[
            ("--consul-token-file", flags.consul_token_file.clone()),
            ("consul_token_file", file.consul_token_file.clone()),
            ("CONSUL_HTTP_TOKEN_FILE", env("CONSUL_HTTP_TOKEN_FILE").map(PathBuf::from)),
        ],
        "CONSUL_HTTP_TOKEN",
        env,
        wrong,
    );
    let auth = source(
        &[
            ("--consul-auth-file", flags.consul_auth_file.clone()),
            ("consul_auth_file", file.consul_auth_file.clone()),
        ],
        "CONSUL_HTTP_AUTH",
        env,
        wrong,
    );
    let span = flags.consul_timeout.or(file.consul_timeout);
    let size = flags.consul_answer_max.or(file.consul_answer_max);
    ConsulSettings {
        url: url(flags, file, env, wrong),
        datacenter: flags.consul_datacenter.clone().or_else(|| file.consul_datacenter.clone()),
        token,
        auth,
        tls,
        timeout: span.map_or(Duration::from_secs(5), |span| span.0),
        answer_max: size.map_or(64 << 20, |size| size.0),
    }
}

/// Returns a valid value, or adds the error to `wrong`.
fn kept<T>(found: Result<T, Error>, wrong: &mut Vec<Error>) -> Option<T> {
    found.map_err(|why| wrong.push(why)).ok()
}

/// As in Consul's own tools, `CONSUL_HTTP_SSL` overrides the scheme of `CONSUL_HTTP_ADDR`.
fn url(
    flags: &Flags,
    file: &Flags,
    env: &impl Fn(&'static str) -> Option<String>,
    wrong: &mut Vec<Error>,
) -> ConsulUrl {
    if let Some(url) = flags.consul.as_ref().or(file.consul.as_ref()) {
        return url.clone();
    }
    let from = "CONSUL_HTTP_ADDR";
    let url = env(from).map(|url| url.parse().map_err(|why| Error::Value { from, why }));
    let url: Option<ConsulUrl> = kept(url.transpose(), wrong).flatten();
    let url = url.unwrap_or_default();
    let tls = kept(switch(env, "CONSUL_HTTP_SSL"), wrong).flatten();
    if tls == Some(true) { url.with_tls() } else { url }
}

/// Parses a switch in the same way as Consul's tools.
fn switch(
    env: &impl Fn(&'static str) -> Option<String>,
    from: &'static str,
) -> Result<Option<bool>, Error> {
    let Some(value) = env(from) else { return Ok(None) };
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        _ => Err(Error::Value { from, why: BadValue::new("expected true or false") }),
    }
}

/// Returns the first file that is given, or else the variable.
fn source(
    files: &[(&'static str, Option<PathBuf>)],
    variable: &'static str,
    env: &impl Fn(&'static str) -> Option<String>,
    wrong: &mut Vec<Error>,
) -> Option<SecretSource> {
    for (flag, path) in files {
        if let Some(path) = path {
            let source = SecretSource::File(flag, path.clone());
            wrong.extend(source.read().err().map(Error::Secret));
            return Some(source);
        }
    }
    let secret = Secret::new(&env(variable)?);
    let secret = secret.map_err(|why| Error::Value { from: variable, why });
    Some(SecretSource::Variable(variable, kept(secret, wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flags: &Flags, env: &[(&'static str, &str)]) -> Result<ConsulSettings, String> {
        let env = |name| {
            let found = env.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut wrong = Vec::new();
        let consul = merge(flags, &Flags::default(), &env, &mut wrong);
        wrong.first().map_or(Ok(consul), |why| Err(why.to_string()))
    }

    #[test]
    fn the_variables_of_consuls_tools_are_taken_as_those_take_them() {
        let none = Flags::default();
        let url = |env: &[_]| of(&none, env).map(|consul| consul.url.to_string());
        let https = |addr| [("CONSUL_HTTP_SSL", "true"), ("CONSUL_HTTP_ADDR", addr)];
        assert_eq!(url(&[]).unwrap(), "http://127.0.0.1:8500");
        assert_eq!(url(&[("CONSUL_HTTP_SSL", "1")]).unwrap(), "https://127.0.0.1:8500");
        assert_eq!(url(&https("h:1")).unwrap(), "https://h:1");
        assert_eq!(url(&https("http://h:1")).unwrap(), "https://h:1");
        assert_eq!(url(&https("unix:///s")).unwrap(), "unix:///s");
        assert!(url(&[("CONSUL_HTTP_SSL", "yes")]).unwrap_err().contains("CONSUL_HTTP_SSL"));
        let all = of(
            &none,
            &[
                ("CONSUL_CACERT", "/ca"),
                ("CONSUL_CAPATH", "/cas"),
                ("CONSUL_CLIENT_CERT", "/cert"),
                ("CONSUL_CLIENT_KEY", "/key"),
                ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
                ("CONSUL_HTTP_SSL_VERIFY", "false"),
                ("CONSUL_HTTP_TOKEN", "secret"),
                ("CONSUL_HTTP_AUTH", "user:pass"),
            ],
        )
        .unwrap();
        assert_eq!(all.tls.ca_file, Some("/ca".into()));
        assert_eq!(all.tls.ca_dir, Some("/cas".into()));
        assert_eq!(all.tls.cert, Some("/cert".into()));
        assert_eq!(all.tls.key, Some("/key".into()));
        assert_eq!(all.tls.server_name.as_deref(), Some("server.dc1.consul"));
        assert!(!all.tls.verify);
        assert_eq!(all.token.unwrap().read().unwrap().expose(), "secret");
        assert_eq!(all.auth.unwrap().read().unwrap().expose(), "user:pass");
        assert!(of(&none, &[("CONSUL_CLIENT_CERT", "/cert")]).unwrap_err().contains("together"));
    }

    #[test]
    fn hax_own_settings_beat_them() {
        let flags = Flags {
            consul: Some("http://own:1".parse().unwrap()),
            consul_ca_file: Some("/own".into()),
            consul_tls_verify: Some(true),
            ..Flags::default()
        };
        let env = [
            ("CONSUL_HTTP_SSL", "true"),
            ("CONSUL_HTTP_ADDR", "env:1"),
            ("CONSUL_CACERT", "/ca"),
            ("CONSUL_HTTP_SSL_VERIFY", "false"),
        ];
        let own = of(&flags, &env).unwrap();
        assert_eq!(own.url.to_string(), "http://own:1");
        assert_eq!(own.tls.ca_file, Some("/own".into()));
        assert!(own.tls.verify);
    }
}
