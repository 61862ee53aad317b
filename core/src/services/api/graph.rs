//! The graph of services: nodes, types, instances, names and schemas, and how they belong together.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::builtin;
use super::snapshot::Snapshot;
use super::view;
use crate::services::model::record::Sharing;

/// An edge, as the ids of its vertices and its label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    label: &'static str,
}

/// A vertex: its id, its kind and what is known of it.
struct Vertex {
    id: String,
    kind: &'static str,
    about: Value,
}

/// The graph.
pub(super) struct Graph {
    vertices: Vec<Vertex>,
    edges: BTreeSet<Edge>,
}

impl Graph {
    pub(super) fn of(all: &Snapshot) -> Self {
        let mut graph = Self { vertices: Vec::new(), edges: BTreeSet::new() };
        for (name, node) in &all.nodes {
            let about = json!({ "up": node.is_up, "labels": node.labels });
            graph.vertex(format!("node:{name}"), "node", about);
        }
        for id in all.schemas.keys() {
            graph.vertex(format!("schema:{id}"), "schema", json!({}));
        }
        for kind in all.types.keys() {
            let about = view::kind(all, kind).unwrap_or(Value::Null);
            graph.vertex(format!("type:{kind}"), "type", about);
            let Some(record) = all.kind(kind) else { continue };
            for need in &record.needs {
                graph.edge(format!("type:{kind}"), format!("type:{need}"), "needs");
            }
            if let Some(schema) = &record.schema {
                graph.edge(format!("type:{kind}"), format!("schema:{}", schema.id), "schema");
            }
        }
        for (node, name) in all.names.keys() {
            graph.vertex(format!("name:{node}/{name}"), "name", json!({}));
            graph.edge(format!("name:{node}/{name}"), format!("node:{node}"), "on");
        }
        graph.instances(all);
        graph.builtin(all);
        graph
    }

    /// Adds the instances, each with its node, its name, its configuration, its process and its type.
    fn instances(&mut self, all: &Snapshot) {
        for ((kind, node), row) in &all.rows {
            let Some(seen) = &row.observed else { continue };
            let Some(id) = &seen.instance else { continue };
            let id = format!("instance:{id}");
            self.vertex(id.clone(), "instance", view::instance(all, kind, node, row));
            self.edge(id.clone(), format!("type:{kind}"), "is");
            self.edge(id.clone(), format!("node:{node}"), "on");
            for (resource, sharing) in &seen.resources {
                let label = match sharing {
                    Sharing::Own => "owns",
                    Sharing::Shared => "shares",
                };
                self.vertex(format!("resource:{resource}"), "resource", json!({}));
                self.edge(id.clone(), format!("resource:{resource}"), label);
            }
            if let Some(revision) = seen.config.as_ref().or(seen.revision.as_ref()) {
                let config = format!("config:{kind}/{revision}");
                self.vertex(config.clone(), "config", json!({}));
                self.edge(id.clone(), config, "configured-by");
            }
            if let Some(pid) = seen.pid {
                let process = format!("process:{node}/{pid}");
                self.vertex(process.clone(), "process", json!({ "pid": pid }));
                self.edge(id.clone(), process, "runs-as");
            }
            let held =
                all.names.iter().filter(|((of, _), record)| of == node && record.kind == *kind);
            for ((_, name), _) in held {
                self.edge(id.clone(), format!("name:{node}/{name}"), "holds");
            }
        }
    }

    /// Adds the services that are part of hax.
    fn builtin(&mut self, all: &Snapshot) {
        for one in builtin::instances(all, None, None) {
            let word = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            let (id, kind) = (format!("instance:{}", word("instance")), word("type"));
            self.vertex(format!("type:{kind}"), "type", json!({ "runner": "builtin" }));
            self.edge(id.clone(), format!("type:{kind}"), "is");
            self.edge(id.clone(), format!("node:{}", word("node")), "on");
            self.vertex(id, "instance", one);
        }
        for (from, to) in builtin::watches(all) {
            self.edge(format!("instance:{from}"), format!("instance:{to}"), "watches");
        }
    }

    fn vertex(&mut self, id: String, kind: &'static str, about: Value) {
        if !self.vertices.iter().any(|vertex| vertex.id == id) {
            self.vertices.push(Vertex { id, kind, about });
        }
    }

    fn edge(&mut self, from: String, to: String, label: &'static str) {
        self.edges.insert(Edge { from, to, label });
    }

    pub(super) fn json(&self) -> Value {
        let vertices = self
            .vertices
            .iter()
            .map(|Vertex { id, kind, about }| json!({ "id": id, "kind": kind, "about": about }));
        let edges = self
            .edges
            .iter()
            .map(|Edge { from, to, label }| json!({ "from": from, "to": to, "label": label }));
        json!({ "vertices": vertices.collect::<Vec<_>>(), "edges": edges.collect::<Vec<_>>() })
    }

    /// Returns the graph in the language of graphviz.
    pub(super) fn dot(&self) -> String {
        // The ids are made of plain names, so they need no escapes.
        let mut text = String::from("digraph services {\n");
        for Vertex { id, kind, .. } in &self.vertices {
            text += &format!("  \"{id}\" [kind=\"{kind}\"];\n");
        }
        for Edge { from, to, label } in &self.edges {
            text += &format!("  \"{from}\" -> \"{to}\" [label=\"{label}\"];\n");
        }
        text + "}\n"
    }
}
