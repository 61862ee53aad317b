//! `hax status`.

use std::io::Write;

use anyhow::{Context as _, bail};
use hax_driver::exit::Exit;
use hax_driver::settings::Settings;
use hax_driver::status;
use serde_json::Value;

use crate::remote::Remote;

/// Asks the hax of these settings and prints what it says.
pub async fn run(settings: &Settings, json: bool, out: &mut impl Write) -> anyhow::Result<Exit> {
    let hax = Remote::find(settings).await.context(
        "cannot find out where hax is; --http ADDRESS:PORT finds it without Consul, and its log has the \
         address (hax listens)",
    )?;
    let at = &hax.authority;
    let (code, body) = match hax.get("/status").await {
        Ok(answer) => answer,
        Err(_) if hax.in_the_other_way().is_alive().await => bail!(hax.other_way_than_asked()),
        Err(why) => {
            return Err(why.context(format!(
                "no hax answers at {at}; does it run (systemctl status hax), and is this its address?"
            )));
        }
    };
    match code {
        200 => {}
        401 => bail!("the hax at {at} demands its token: give --http-token-file"),
        404 => bail!("what answers at {at} knows no /status: it is no hax, or an older one"),
        _ => bail!("the hax at {at} says {code}: {}", String::from_utf8_lossy(&body)),
    }
    let said: Value =
        serde_json::from_slice(&body).with_context(|| format!("the answer of {at}"))?;
    if json {
        writeln!(out, "{}", String::from_utf8_lossy(&body).trim_end())?;
    } else {
        out.write_all(status::table(&said).as_bytes())?;
    }
    Ok(if said["ready"] == true { Exit::Clean } else { Exit::NotReady })
}
