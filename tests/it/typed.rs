//! Typed keys and values.

use std::ops::Bound;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use lightning_db::{Batch, Database, ErrorKind, Key, TypedKeyspace};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::scratch;
use crate::support::run;

type Path = (String, i64, Option<Vec<u8>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Circle { radius: f64 },
    Polygon(Vec<(i32, i32)>),
}

fn circle(radius: f64) -> Shape {
    Shape::Circle { radius }
}

fn key_of(name: &str, number: i64, tail: Option<&[u8]>) -> Path {
    (name.to_owned(), number, tail.map(<[u8]>::to_vec))
}

/// Asserts that bytes sort as the values do, and that each comes back.
fn assert_ordered<K: Key + PartialOrd + std::fmt::Debug>(ascending: &[K]) {
    for pair in ascending.windows(2) {
        assert!(pair[0] < pair[1], "{pair:?}");
        assert!(pair[0].to_bytes() < pair[1].to_bytes(), "{pair:?}");
    }
    for key in ascending {
        assert_eq!(K::from_bytes(&key.to_bytes()).as_ref(), Ok(key));
    }
}

#[test]
fn bytes_of_keys_sort_as_the_keys_do() {
    let powers = (0..63).map(|bit| 1_i64 << bit);
    let around = powers.flat_map(|power| [power - 1, power, power + 1]);
    let mut numbers: Vec<i64> = around.flat_map(|number| [number, -number]).collect();
    numbers.extend([i64::MIN, i64::MAX, 0]);
    numbers.sort_unstable();
    numbers.dedup();
    assert_ordered(&numbers);
    assert_ordered(&[0_u64, 1, 255, 256, 65_535, 65_536, u64::MAX - 1, u64::MAX]);
    let reals = [1e-300, 0.5, 1.0, 1.5, 255.0, 1e300, f64::INFINITY];
    let mut floats: Vec<f64> = reals.iter().rev().map(|real| -real).collect();
    floats.push(0.0);
    floats.extend(reals);
    assert_ordered(&floats);
    let narrow: Vec<f32> = vec![
        f32::NEG_INFINITY,
        -1.5,
        0.0,
        f32::MIN_POSITIVE,
        2.0,
        f32::MAX,
    ];
    assert_ordered(&narrow);
    let texts = [
        "",
        "\0",
        "\0\0",
        "\0a",
        "a",
        "a\0",
        "a\0b",
        "a\u{1}",
        "aa",
        "b",
        "\u{10ffff}",
    ];
    assert_ordered(&texts.map(str::to_owned));
    assert_ordered(&[false, true]);
    let bytes: [&[u8]; 6] = [b"", b"\0", b"\0\xff", b"\x01", b"\xff", b"\xff\0"];
    assert_ordered(&bytes.map(<[u8]>::to_vec));
    assert_ordered(&[
        key_of("", 0, None),
        key_of("a", i64::MIN, None),
        key_of("a", -1, Some(b"z")),
        key_of("a", 5, None),
        key_of("a", 5, Some(b"")),
        key_of("a", 5, Some(b"\0")),
        key_of("a\0", -7, None),
        key_of("aa", -9, None),
    ]);
    assert_ordered(&[((1_u16, 2_u16), 9_u16), ((1, 3), 0), ((2, 0), 0)]);
}

#[test]
fn bytes_that_are_no_key_of_a_type_are_refused() {
    let refused = |bytes: &[u8]| <(String, u16)>::from_bytes(bytes).is_err();
    let sound = ("key".to_owned(), 7_u16).to_bytes();
    assert!(!refused(&sound));
    for len in 0..sound.len() {
        assert!(refused(&sound[..len]), "{len}");
    }
    assert!(refused(&[&sound[..], b"\0"].concat()));
    assert!(refused(&("key".to_owned(), 70_000_u32).to_bytes()));
    assert!(refused(&("key".to_owned(), -1_i16).to_bytes()));
    assert!(refused(&(vec![0xff_u8, 0xfe], 7_u16).to_bytes()));
    assert!(refused(b"anything"));
}

#[test]
fn typed_rows_come_back_in_the_order_of_their_keys() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("typed", async move {
        let db = Database::create(path).await.unwrap();
        let shapes: TypedKeyspace<Path, Shape> = db.keyspace("default").await.unwrap().typed();
        let triangle = Shape::Polygon(vec![(0, 0), (-4, 0), (0, 3)]);
        let rows = [
            (key_of("a", -300, None), circle(1.0)),
            (key_of("a", -2, Some(b"x")), triangle.clone()),
            (key_of("a", 70_000, None), circle(2.0)),
            (key_of("a\0b", 1, None), circle(3.0)),
            (key_of("b", 0, None), circle(-0.5)),
        ];
        let mut batch = Batch::new();
        for (key, value) in rows.iter().rev() {
            shapes.put_in(&mut batch, key, value).unwrap();
        }
        db.write(batch).await.unwrap();

        let all: Vec<_> = shapes.scan(..).try_collect().await.unwrap();
        assert_eq!(all, rows);
        let reversed: Vec<_> = shapes
            .scan(..)
            .reverse()
            .limit(2)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(reversed, [rows[4].clone(), rows[3].clone()]);
        let some: Vec<_> = shapes
            .scan(rows[1].0.clone()..rows[3].0.clone())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(some, rows[1..3]);
        let behind = (Bound::Excluded(rows[3].0.clone()), Bound::Unbounded);
        assert_eq!(shapes.count(behind).await.unwrap(), 1);
        // A longer string with a zero begins with the same bytes, and is another key.
        let of_a: Vec<_> = shapes
            .scan_prefix(&("a".to_owned(),))
            .try_collect()
            .await
            .unwrap();
        assert_eq!(of_a, rows[..3]);
        let one: Vec<_> = shapes
            .scan_prefix(&("a".to_owned(), -2_i64))
            .try_collect()
            .await
            .unwrap();
        assert_eq!(one, rows[1..2]);
        assert_eq!(shapes.first(..).await.unwrap().as_ref(), Some(&rows[0]));
        assert_eq!(shapes.last(..).await.unwrap().as_ref(), Some(&rows[4]));

        assert_eq!(shapes.get(&rows[1].0).await.unwrap(), Some(triangle));
        let keys = [rows[4].0.clone(), key_of("none", 0, None)];
        let got = shapes.get_many(&keys).await.unwrap();
        assert_eq!(got, [Some(rows[4].1.clone()), None]);
        shapes.delete(&rows[0].0).await.unwrap();
        assert!(!shapes.exists(&rows[0].0).await.unwrap());
        assert_eq!(shapes.delete_range(..rows[3].0.clone()).await.unwrap(), 2);
        db.close().await.unwrap();
    });
}

#[test]
fn what_is_stored_otherwise_is_an_error_that_names_it() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("typed", async move {
        let db = Database::create(path).await.unwrap();
        let keyspace = db.keyspace("default").await.unwrap();
        let counts: TypedKeyspace<(u32,), u16> = keyspace.typed();
        counts.put(&(1,), &10).await.unwrap();
        keyspace
            .put((2_u32,).to_bytes(), b"\xff\xff\xff\xff")
            .await
            .unwrap();
        keyspace.put("no tuple", b"\x05").await.unwrap();
        counts.put(&(3,), &30).await.unwrap();

        let error = counts.get(&(2,)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encoding);
        let text = error.to_string();
        assert!(
            text.starts_with("the value at \\x15\\x02 in the keyspace default: "),
            "{text}"
        );
        let error = counts.update(&(2,), |_| Some(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encoding);
        let kept = keyspace.get((2_u32,).to_bytes()).await.unwrap();
        assert_eq!(kept.as_deref(), Some(&[0xff; 4][..]));

        let rows: Vec<_> = counts.scan(..).collect().await;
        let kinds: Vec<_> = rows
            .iter()
            .map(|row| row.as_ref().map_err(lightning_db::Error::kind))
            .collect();
        assert_eq!(
            kinds,
            [
                Ok(&((1,), 10)),
                Err(ErrorKind::Encoding),
                Ok(&((3,), 30)),
                Err(ErrorKind::Encoding)
            ]
        );
        db.close().await.unwrap();
    });
}

#[test]
fn an_update_sees_and_leaves_values() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("typed", async move {
        let db = Database::create(path).await.unwrap();
        let keyspace = db.keyspace("default").await.unwrap();
        let lists = keyspace.typed::<String, Vec<String>>();
        let key = "list".to_owned();
        let push = |item: &str| {
            let item = item.to_owned();
            move |list: Option<Vec<String>>| {
                let mut list = list.unwrap_or_default();
                list.push(item);
                Some(list)
            }
        };
        lists.update(&key, push("a")).await.unwrap();
        let both = lists.update(&key, push("b")).await.unwrap();
        assert_eq!(both, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(lists.update(&key, |_| None).await.unwrap(), None);
        assert!(!lists.exists(&key).await.unwrap());
        db.close().await.unwrap();
    });
}

/// A value that cannot be written when it is negative.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct Natural(i64);

impl Serialize for Natural {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 < 0 {
            return Err(S::Error::custom("negative"));
        }
        self.0.serialize(serializer)
    }
}

#[test]
fn a_value_that_cannot_be_written_changes_nothing() {
    let directory = scratch();
    let path = directory.path().join("db");
    run("typed", async move {
        let db = Database::create(path).await.unwrap();
        let keyspace = db.keyspace("default").await.unwrap();
        let naturals = keyspace.typed::<u64, Natural>();
        naturals.put(&1, &Natural(10)).await.unwrap();
        let refused = naturals.put(&1, &Natural(-1)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Encoding);
        let refused = naturals.update(&1, |_| Some(Natural(-2))).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Encoding);
        assert_eq!(naturals.get(&1).await.unwrap(), Some(Natural(10)));

        let mut batch = Batch::new();
        let refused = naturals.put_in(&mut batch, &2, &Natural(-3)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Encoding);
        assert!(batch.is_empty());
        naturals.put_in(&mut batch, &2, &Natural(20)).unwrap();
        naturals.delete_in(&mut batch, &1);
        db.write(batch).await.unwrap();
        let long = Duration::from_hours(1);
        naturals.put_with_ttl(&3, &Natural(30), long).await.unwrap();
        let all: Vec<_> = naturals.scan(..).try_collect().await.unwrap();
        assert_eq!(all, [(2, Natural(20)), (3, Natural(30))]);
        db.close().await.unwrap();
    });
}
