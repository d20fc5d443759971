use super::*;

fn steps(key: &[&str], text: &[u8], piece: usize) -> Vec<Step> {
    let mut rows = JsonRows::new(key.iter().map(|&column| column.to_owned()).collect());
    let mut steps = Vec::new();
    let mut fed = 0;
    let mut input: &[u8] = &[];
    loop {
        match rows.step(&mut input, fed == text.len()) {
            Step::NeedInput => {
                let end = text.len().min(fed + piece);
                input = &text[fed..end];
                fed = end;
            }
            Step::End => return steps,
            step => steps.push(step),
        }
    }
}

/// The steps of a text, the same however it is cut.
fn rows_of(key: &[&str], text: &str) -> Vec<Step> {
    let whole = steps(key, text.as_bytes(), text.len().max(1));
    for piece in 1..text.len() {
        assert_eq!(steps(key, text.as_bytes(), piece), whole, "{piece}");
    }
    whole
}

fn row(key: &str, value: &str) -> Step {
    Step::Row(Row {
        key: key.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
    })
}

fn fault(key: &str, line: &str) -> String {
    match steps(&[key], line.as_bytes(), line.len()).remove(0) {
        Step::Bad(bad) => bad.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_keep_their_types_digits_and_order() {
    let text =
        "{ \"z\" : 1.00, \"a\": 12345678901234567890123,\t\"s\":\" x \\\" \\\\\" , \"n\":null }\n";
    assert_eq!(
        rows_of(&["a"], text),
        [row(
            "12345678901234567890123",
            r#"{"z":1.00,"a":12345678901234567890123,"s":" x \" \\","n":null}"#
        )]
    );
}

#[test]
fn key_columns_of_every_scalar_type_have_a_text_form() {
    let line = r#"{"s":"a\u00e9\n","n":-1.5e3,"t":true,"u":null}"#;
    let Step::Row(row) = rows_of(&["s", "n", "t", "u"], line).remove(0) else {
        panic!("the row is good")
    };
    assert_eq!(row.key, "aé\n/-1.5e3/true/null".as_bytes());
}

#[test]
fn blank_lines_count_as_lines_but_are_no_rows() {
    let text = "\n  \r\n{\"k\":1}\r\n\n{\"k\":}\n{\"k\":2}";
    let rows = rows_of(&["k"], text);
    assert_eq!(rows[0], row("1", r#"{"k":1}"#));
    assert!(matches!(&rows[1], Step::Bad(bad) if bad.line == 5));
    assert_eq!(rows[2..], [row("2", r#"{"k":2}"#)]);
}

#[test]
fn bad_rows_say_what_is_wrong() {
    assert_eq!(
        fault("k", "{\"k\":1"),
        "line 1: broken JSON: EOF while parsing an object at column 6"
    );
    assert!(fault("k", "{\"k\":1} {}").contains("trailing characters"));
    assert!(fault("k", "[1,").contains("broken JSON"));
    assert_eq!(
        fault("k", "[1]"),
        "line 1: expected a JSON object, found an array"
    );
    assert_eq!(
        fault("k", "-1"),
        "line 1: expected a JSON object, found a number"
    );
    assert_eq!(fault("k", "{}"), "line 1: the key column \"k\" is absent");
    assert_eq!(fault("k", "{\"k\":\"\"}"), "line 1: the key is empty");
    assert_eq!(
        fault("k", "{\"k\":[]}"),
        "line 1: the key column \"k\" holds an array, which has no text form"
    );
    let not_text = steps(&["k"], b"{\"k\":\"\xff\"}", 64);
    assert_eq!(not_text, [Step::Bad(RowFault::NotUtf8.on(1))]);
}

#[test]
fn nesting_of_any_depth_is_read_in_bounded_stack() {
    let deep = format!(
        "{{\"k\":1,\"v\":{}{}}}",
        "[".repeat(1 << 20),
        "]".repeat(1 << 20)
    );
    assert_eq!(steps(&["k"], deep.as_bytes(), 1 << 16), [row("1", &deep)]);
}

#[test]
fn a_line_over_the_bound_is_dropped_and_the_next_is_read() {
    let mut text = vec![b' '; ROW_BYTES_MAX + 1];
    text.extend_from_slice(b"\n{\"k\":2}\n");
    let steps = steps(&["k"], &text, 1 << 20);
    assert_eq!(
        steps,
        [Step::Bad(RowFault::LongRow.on(1)), row("2", r#"{"k":2}"#)]
    );
}
