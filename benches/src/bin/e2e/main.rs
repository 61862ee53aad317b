//! hax end to end: a real Consul, a real hax, peers over real sockets, and beside every figure a
//! ceiling from the same run. `--json` prints one object, `--quick` takes less of everything, `--lean`
//! compares the light build with hax instead.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

mod ceiling;
mod http;
mod lean;
mod peer;
mod rows;
mod storm;
mod world;

use serde_json::{Value, json};

/// One figure.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// Of the same run, in the same unit.
    pub(crate) ceiling: Option<f64>,
    /// What hax asked Consul for meanwhile.
    pub(crate) consul_requests: u64,
    pub(crate) target: &'static str,
    pub(crate) ok: bool,
    /// What else is worth to know.
    pub(crate) more: String,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.ceiling.map(|ceiling| self.value / ceiling)
    }

    fn json(&self) -> Value {
        json!({
            "value": self.value, "unit": self.unit, "ceiling": self.ceiling, "ratio": self.ratio(),
            "consul_requests": self.consul_requests, "target": self.target, "ok": self.ok,
            "more": self.more,
        })
    }

    fn line(&self) -> String {
        let number = |n: Option<f64>| n.map_or_else(|| "–".to_owned(), |n| format!("{n:.2}"));
        let ok = if self.ok { "yes" } else { "NO" };
        format!(
            "| {} | {:.2} {} | {} | {} | {} | {} | {ok} | {} |",
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

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    if let [serve, kind, at, confds] = &args[..]
        && serve == "--serve"
    {
        let at = at.parse()?;
        let confds = confds.parse()?;
        return local.block_on(&rt, async {
            match kind.as_str() {
                "constant" => ceiling::constant(at, confds).await,
                _ => ceiling::parsing(at).await,
            }
        });
    }
    let (json, quick) = (has(&args, "--json"), has(&args, "--quick"));
    let known = ["--json", "--quick", "--lean"];
    if let Some(unknown) = args.iter().find(|arg| !known.contains(&arg.as_str())) {
        anyhow::bail!("{unknown}: there are {}", known.join(", "));
    }
    let rows = if has(&args, "--lean") {
        local.block_on(&rt, lean::rows(quick))?
    } else {
        world::build()?;
        local.block_on(&rt, rows::all(quick))?
    };
    if json {
        let rows = rows.iter().map(|row| (row.name.to_owned(), row.json()));
        println!("{:#}", Value::Object(rows.collect()));
        return Ok(());
    }
    println!("| what | value | ceiling | ratio | Consul requests | target | ok | more |");
    println!("|---|---|---|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{}", row.line()));
    Ok(())
}

fn has(args: &[String], flag: &str) -> bool {
    args.iter().any(|arg| arg == flag)
}
