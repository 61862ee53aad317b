//! Bad JSON.

use crate::fixture::Fixture;

/// Returns one check with one of its fields changed.
fn check(field: &str) -> Vec<u8> {
    let fields = [
        r#""Node": "ssu1""#,
        r#""CheckID": "service:2""#,
        r#""Status": "critical""#,
        r#""ServiceID": "2""#,
        r#""ModifyIndex": 9"#,
    ];
    let name = field.split(':').next().unwrap();
    let others = fields.into_iter().filter(|other| !other.starts_with(name));
    let all: Vec<&str> = others.chain([field]).collect();
    format!("[{{\"Checks\": [{{{}}}]}}]", all.join(", ")).into_bytes()
}

fn bad() -> Vec<(String, Vec<u8>)> {
    let texts = [
        "",
        " ",
        "{",
        "[",
        "]",
        "{}",
        "1",
        "true",
        "\"x\"",
        "nul",
        "nullx",
        "[] x",
        "[]]",
        "[,]",
        "[null]",
        "[1]",
        "[[]]",
        "[{]",
        "[{},]",
        "[{\"Checks\": {}}]",
        "[{\"Checks\": 1}]",
        "[{\"Checks\": [1]}]",
        "[{\"Checks\": [{}]}]",
        "[{\"Checks\": [], \"Checks\": []}]",
        "[NaN]",
        "[/* */]",
        "['']",
        "\u{feff}[]",
    ];
    let fields = [
        r#""Node": 1"#,
        r#""Node": null"#,
        r#""Node": ["ssu1"]"#,
        r#""Node": "\ud800""#,
        r#""Node": "\x""#,
        r#""Node": "ssu1"#,
        r#""CheckID": {}"#,
        r#""Status": false"#,
        r#""Status": null"#,
        r#""ServiceID": 2"#,
        r#""ModifyIndex": -1"#,
        r#""ModifyIndex": 1.5"#,
        r#""ModifyIndex": "9""#,
        r#""ModifyIndex": 1e400"#,
        r#""ModifyIndex": 18446744073709551616"#,
        r#""ModifyIndex": 99999999999999999999999999999999999999"#,
        r#""ModifyIndex": 9, "ModifyIndex": 9"#,
    ];
    let mut all: Vec<(String, Vec<u8>)> =
        texts.iter().map(|text| (format!("{text:?}"), text.as_bytes().to_vec())).collect();
    all.extend(fields.iter().map(|field| ((*field).to_owned(), check(field))));
    let utf8 = check("\"Node\": \"ssu1\"");
    let at = utf8.windows(4).position(|part| part == b"ssu1").unwrap();
    for byte in [0, 0x1f, 0x80, 0xc0, 0xff] {
        let mut bytes = utf8.clone();
        bytes[at] = byte;
        all.push((format!("byte {byte:#x} in a name"), bytes));
    }
    for depth in [200, 100_000, 4_000_000] {
        all.push((format!("{depth} lists"), vec![b'['; depth]));
        all.push((format!("{depth} objects"), b"{\"a\":".repeat(depth / 5)));
    }
    let sample = check("\"Output\": \"\"");
    all.extend((1..sample.len()).step_by(7).map(|n| (format!("{n} bytes"), sample[..n].to_vec())));
    all
}

#[test]
fn bad_json_is_refused_whole() {
    let mut fixture = Fixture::new();
    for (name, body) in bad() {
        let reply = fixture.place.ask("POST", "/", &body);
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(said["status_code"], 400, "{name}: {said}");
        fixture.is_well(&name);
    }
    // Fields that hax does not use may have any value.
    let depth = 100_000;
    let deep = ["[".repeat(depth), "]".repeat(depth)].concat();
    let deep = format!("[{{\"New\": {deep}, \"Checks\": []}}]");
    assert_eq!(fixture.place.ask("POST", "/", deep.as_bytes()).status, 200);
    fixture.is_well("a deep field that nobody knows");
}
