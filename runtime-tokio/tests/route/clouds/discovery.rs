//! A check of requests against Google's discovery document of Compute Engine: the machine-readable
//! description of its API.

use serde_json::Value;

use super::http::Asked;
use super::python;

/// The document. See the module.
pub(super) struct Discovery(Value);

impl Discovery {
    pub(super) fn read() -> Self {
        let text = std::fs::read(python::discovery()).unwrap();
        Self(serde_json::from_slice(&text).unwrap())
    }

    /// Checks a request: there is such a method, and the query and the body have its names and types.
    pub(super) fn check(&self, asked: &Asked) {
        let base = format!("/{}", self.0["servicePath"].as_str().unwrap());
        let path = asked.path().strip_prefix(&*base).expect("the service's path");
        let method = self.method(&asked.method, path);
        let method = method.unwrap_or_else(|| panic!("no method {} {path}", asked.method));
        let query = asked.target.split_once('?').map_or("", |(_, query)| query);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').expect("a name and a value");
            let of_method = &method["parameters"][name];
            assert!(of_method["location"] == "query", "{name} is no parameter of {path}");
            assert!(!value.is_empty(), "{name}");
        }
        match method["request"]["$ref"].as_str() {
            None => assert_eq!(asked.body, "", "{path} has no body"),
            Some(schema) => {
                assert_eq!(asked.header("content-type"), "application/json");
                let body: Value = serde_json::from_str(&asked.body).unwrap();
                self.check_body(schema, &body);
            }
        }
    }

    fn method(&self, verb: &str, path: &str) -> Option<&Value> {
        let resources = self.0["resources"].as_object().unwrap().values();
        let mut methods = resources.filter_map(|one| one["methods"].as_object());
        methods.find_map(|methods| {
            methods.values().find(|method| {
                let like = method["path"].as_str().unwrap();
                method["httpMethod"] == verb && is_like(like, path)
            })
        })
    }

    fn check_body(&self, schema: &str, body: &Value) {
        let properties = &self.0["schemas"][schema]["properties"];
        for (name, value) in body.as_object().expect("an object") {
            let property = &properties[name];
            let is_so = match property["type"].as_str() {
                Some("string") => value.is_string(),
                Some("integer") => value.is_u64(),
                Some("array") => {
                    value.as_array().is_some_and(|all| all.iter().all(Value::is_string))
                }
                other => panic!("{schema}.{name}: {other:?}"),
            };
            assert!(is_so, "{schema}.{name}: {value}");
        }
    }
}

/// Returns whether a path is like a template, as `projects/{project}/global/routes`.
fn is_like(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}
