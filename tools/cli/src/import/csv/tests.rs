use super::*;

fn keys(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|&column| column.to_owned()).collect()
}

/// All steps that a text makes, fed in pieces of `piece` bytes.
fn steps(mut rows: CsvRows, text: &[u8], piece: usize) -> Result<Vec<Step>, HeaderError> {
    let mut steps = Vec::new();
    let mut fed = 0;
    let mut input: &[u8] = &[];
    loop {
        match rows.step(&mut input, fed == text.len())? {
            Step::NeedInput => {
                assert!(
                    input.is_empty(),
                    "everything is taken in before more is asked for"
                );
                let end = text.len().min(fed + piece);
                input = &text[fed..end];
                fed = end;
            }
            Step::End => return Ok(steps),
            step => steps.push(step),
        }
    }
}

/// The steps behind the header, the same however the text is cut.
fn rows_of(make: fn(Vec<String>) -> CsvRows, key: &[&str], text: &[u8]) -> Vec<Step> {
    let whole = steps(make(keys(key)), text, text.len().max(1)).unwrap();
    for piece in 1..=text.len().min(64) {
        assert_eq!(
            steps(make(keys(key)), text, piece).unwrap(),
            whole,
            "{piece}"
        );
    }
    assert_eq!(whole[0], Step::Header);
    whole[1..].iter().map(clone).collect()
}

fn clone(step: &Step) -> Step {
    match step {
        Step::Row(row) => Step::Row(row.clone()),
        Step::Bad(bad) => Step::Bad(bad.clone()),
        other => panic!("{other:?} behind the header"),
    }
}

fn row(key: &str, value: &str) -> Step {
    Step::Row(Row {
        key: key.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
    })
}

fn header_error(key: &[&str], text: &[u8]) -> String {
    let error = steps(CsvRows::csv(keys(key)), text, text.len().max(1)).unwrap_err();
    error.to_string()
}

#[test]
fn a_row_becomes_an_object_of_strings_in_the_order_of_the_header() {
    let text = "b,a,\"c \"\"x\"\"\"\n1,two,\"line\nbreak, \"\"q\"\"\"\n,é\\,3\n".as_bytes();
    assert_eq!(
        rows_of(CsvRows::csv, &["a", "b"], text),
        [
            row(
                "two/1",
                r#"{"b":"1","a":"two","c \"x\"":"line\nbreak, \"q\""}"#
            ),
            row("é\\/", r#"{"b":"","a":"é\\","c \"x\"":"3"}"#),
        ]
    );
}

#[test]
fn line_ends_of_every_kind_end_rows_and_blank_lines_are_passed_over() {
    let expected = [
        row("1", r#"{"k":"1","v":"2"}"#),
        row("3", r#"{"k":"3","v":"4"}"#),
    ];
    for text in [
        "k,v\n1,2\n3,4\n",
        "k,v\r\n1,2\r\n3,4\r\n",
        "\n\nk,v\n\n1,2\r\n\r\n3,4",
    ] {
        assert_eq!(
            rows_of(CsvRows::csv, &["k"], text.as_bytes()),
            expected,
            "{text:?}"
        );
    }
    assert!(rows_of(CsvRows::csv, &["k"], b"k,v").is_empty());
}

#[test]
fn a_quotation_mark_is_an_ordinary_character_between_tabs() {
    let text = b"k\tv\n\"a\t5\" pipe\nb\t\"\n";
    assert_eq!(
        rows_of(CsvRows::tsv, &["k"], text),
        [
            row("\"a", r#"{"k":"\"a","v":"5\" pipe"}"#),
            row("b", r#"{"k":"b","v":"\""}"#),
        ]
    );
}

#[test]
fn bad_rows_name_their_line_and_the_next_row_is_read() {
    let text = b"k,v\r\n1\r\n\r\n\"2\n2\",x\n,empty\n3,\xff\n4,5,6\n7,8";
    let count = |expected, found| RowFault::FieldCount { expected, found };
    assert_eq!(
        rows_of(CsvRows::csv, &["k"], text),
        [
            Step::Bad(count(2, 1).on(2)),
            row("2\n2", r#"{"k":"2\n2","v":"x"}"#),
            Step::Bad(RowFault::EmptyKey.on(6)),
            Step::Bad(RowFault::NotUtf8.on(7)),
            Step::Bad(count(2, 3).on(8)),
            row("7", r#"{"k":"7","v":"8"}"#),
        ]
    );
}

#[test]
fn a_quote_left_open_is_reported_where_its_row_begins() {
    let text = b"k,v\n1,2\n3,\"four\n5,6\n";
    assert_eq!(
        rows_of(CsvRows::csv, &["k"], text),
        [
            row("1", r#"{"k":"1","v":"2"}"#),
            Step::Bad(RowFault::OpenQuote.on(3))
        ]
    );
    // Closed at the very end of the file is closed.
    let closed = rows_of(CsvRows::csv, &["k"], b"k,v\n3,\"four\"");
    assert_eq!(closed, [row("3", r#"{"k":"3","v":"four"}"#)]);
}

#[test]
fn a_row_over_the_bounds_is_dropped_and_the_next_is_read() {
    let mut text = b"k,v\n1,".to_vec();
    text.resize(text.len() + ROW_BYTES_MAX + 1, b'x');
    text.extend_from_slice(b"\n2,y\n3");
    text.resize(text.len() + FIELDS_MAX + 1, b',');
    text.extend_from_slice(b"\n4,z\n");
    let steps = steps(CsvRows::csv(keys(&["k"])), &text, 1 << 20).unwrap();
    assert_eq!(
        steps[1..],
        [
            Step::Bad(RowFault::LongRow.on(2)),
            row("2", r#"{"k":"2","v":"y"}"#),
            Step::Bad(RowFault::LongRow.on(4)),
            row("4", r#"{"k":"4","v":"z"}"#),
        ]
    );
}

#[test]
fn a_header_that_cannot_be_used_is_refused() {
    assert_eq!(
        header_error(&["x"], b"k,v\n"),
        "no column \"x\" in the header: k, v"
    );
    assert_eq!(
        header_error(&["k"], b"k,v,k\n"),
        "the header has the column \"k\" twice"
    );
    assert_eq!(header_error(&["k"], b""), "there is no header line");
    assert_eq!(
        header_error(&["k"], b"k,\xff\n"),
        "the header: not valid UTF-8"
    );
    assert!(header_error(&["k"], b"k,\"v\n1,2\n").contains("not closed"));
}

/// The mark that a file may begin with is taken off before the rows are parsed. One more is a part
/// of the first column's name, and not only when it arrives in pieces.
#[test]
fn a_byte_order_mark_is_kept_however_it_arrives() {
    for make in [CsvRows::csv, CsvRows::tsv] {
        let rows = rows_of(make, &["\u{feff}k"], "\u{feff}k\n1\n".as_bytes());
        assert_eq!(rows, [row("1", "{\"\u{feff}k\":\"1\"}")]);
        let rows = rows_of(make, &["\u{feff}k"], "\n\u{feff}k\n1\n".as_bytes());
        assert_eq!(rows, [row("1", "{\"\u{feff}k\":\"1\"}")]);
    }
}
