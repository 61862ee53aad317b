//! The fuzz target for a configuration file.

use super::Settings;
use super::flags::Flags;

/// Reads `data` as a configuration file, prints the settings, and reads them again: they must be the same.
/// Nothing of this machine is read; settings that name secrets are removed.
///
/// # Panics
///
/// If the settings differ: `fuzz/` passes libFuzzer's inputs, and a test passes the saved ones.
pub fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let settings = match read(text) {
        Ok(settings) => settings,
        Err(why) => return assert!(!why.is_empty(), "an error has words"),
    };
    let again = read(&settings.to_string());
    assert!(again.as_ref() == Ok(&settings), "{again:?} was {settings}");
}

fn read(text: &str) -> Result<Settings, String> {
    let mut file: Flags = toml::from_str(text).map_err(|why| why.to_string())?;
    for path in [&mut file.consul_token_file, &mut file.consul_auth_file, &mut file.http_token_file]
    {
        *path = None;
    }
    Settings::merge(Flags::default(), file, |_| None).map_err(|why| why.to_string())
}
