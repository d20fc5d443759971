//! The architecture's invariants and the habits of the code, as far as they can be read off the
//! tree.
//!
//! Comments and the contents of strings are blanked before code is searched. Every check fails when
//! it finds no file to check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files over this have to be in [`LONG_FILES`].
const LINES_AIM: usize = 500;
/// And none is over this.
const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 100;

/// Lines, of comments mostly, that are longer; this number may only shrink.
const LONG_LINES: usize = 107;

/// Files whose production part is longer than aimed at, with the length that they must not exceed.
/// The list and its numbers may only shrink.
const LONG_FILES: &[(&str, usize)] = &[
    ("io/src/sim/executor.rs", 654),
    ("shards/src/memtable/table.rs", 545),
    ("shards/src/tree/update.rs", 594),
];

/// A source file, as it is and with comments and strings blanked; both have the same lines.
struct Source {
    /// Relative to the root of the workspace.
    path: String,
    text: String,
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project below `directory`: nothing that is built, and nothing hidden.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_str().unwrap();
        if name == "target" || name.starts_with('.') && name != ".gitignore" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn files_with(extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(root(), &mut files);
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "no file ends with .{extension}");
    files
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// The Rust files below one of the directories.
fn sources(below: &[&str]) -> Vec<Source> {
    let mut sources = Vec::new();
    for path in files_with("rs") {
        let text = fs::read_to_string(&path).unwrap();
        let path = relative(&path);
        if below.iter().any(|directory| path.starts_with(directory)) {
            let code = blank(&text);
            sources.push(Source { path, text, code });
        }
    }
    assert!(!sources.is_empty(), "no source below {below:?}");
    sources
}

/// Everything that is compiled into the library or the tool, without its tests.
fn production(below: &[&str]) -> Vec<Source> {
    let mut sources = sources(below);
    sources.retain(|source| {
        let parts: Vec<&str> = source.path.split('/').collect();
        !parts.contains(&"tests")
            && !parts.contains(&"benches")
            && !source.path.ends_with("tests.rs")
            // The models of the mesh are tests that another compiler flag switches on.
            && !parts.contains(&"loom")
            && !source.path.ends_with("loom.rs")
    });
    for source in &mut sources {
        let lines = production_lines(&source.code);
        source.code = source
            .code
            .lines()
            .take(lines)
            .fold(String::new(), |code, line| code + line + "\n");
    }
    assert!(!sources.is_empty(), "no production source below {below:?}");
    sources
}

/// The number of lines in front of the tests at the end of a file.
fn production_lines(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0].starts_with("#[cfg(test)]") && pair[1].starts_with("mod tests"));
    tests.unwrap_or(lines.len())
}

/// Replaces comments and the contents of strings and characters by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        code.extend(
            chars[at..end]
                .iter()
                .map(|&char| if char == '\n' { '\n' } else { ' ' }),
        );
        at = end;
    }
    code
}

/// Where the comment or literal that begins here ends; here, when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let starts = |text: &str| {
        chars[at..]
            .iter()
            .copied()
            .take(text.len())
            .eq(text.chars())
    };
    let find = |from: usize, end: &dyn Fn(usize) -> bool| {
        (from..chars.len())
            .find(|&place| end(place))
            .unwrap_or(chars.len())
    };
    if starts("//") {
        return find(at, &|place| chars[place] == '\n');
    }
    if starts("/*") {
        let mut depth = 0_usize;
        let mut place = at;
        while place < chars.len() {
            let pair = (chars[place], chars.get(place + 1).copied().unwrap_or(' '));
            match pair {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    place += 1;
                    continue;
                }
            }
            place += 2;
            if depth == 0 {
                return place;
            }
        }
        return chars.len();
    }
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let hashes = chars[at + 1..]
        .iter()
        .take_while(|&&char| char == '#')
        .count();
    if chars[at] == 'r'
        && (!in_word || chars[at - 1] == 'b')
        && chars.get(at + 1 + hashes) == Some(&'"')
    {
        let closes = |place: usize| {
            chars[place] == '"'
                && chars[place + 1..]
                    .iter()
                    .take(hashes)
                    .filter(|&&char| char == '#')
                    .count()
                    == hashes
        };
        return (find(at + 2 + hashes, &closes) + 1 + hashes).min(chars.len());
    }
    let quoted_end = |quote: char| {
        let mut place = at + 1;
        while place < chars.len() && chars[place] != quote {
            place += 1 + usize::from(chars[place] == '\\');
        }
        (place + 1).min(chars.len())
    };
    match chars[at] {
        '"' => quoted_end('"'),
        // A character, and not a lifetime.
        '\'' if chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'') => {
            quoted_end('\'')
        }
        _ => at,
    }
}

/// Whether `word` stands in `line` as a word of its own.
fn names(line: &str, word: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open = |edge: Option<char>, char: Option<char>| {
            !edge.is_some_and(is_part) || !char.is_some_and(is_part)
        };
        open(word.chars().next(), before) && open(word.chars().next_back(), after)
    })
}

/// Fails with every line of `sources` that `is_wrong` finds wrong.
#[track_caller]
fn check_lines(sources: &[Source], rule: &str, is_wrong: impl Fn(&str) -> bool) {
    let mut found = Vec::new();
    for source in sources {
        for (number, (code, text)) in source.code.lines().zip(source.text.lines()).enumerate() {
            if is_wrong(code) {
                found.push(format!("{}:{}: {}", source.path, number + 1, text.trim()));
            }
        }
    }
    report(rule, &found);
}

#[track_caller]
fn report(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}\n{}", found.join("\n"));
}

const ALL: &[&str] = &[
    "src/",
    "shards/",
    "io/",
    "tools/",
    "tests/",
    "benches/",
    "examples/",
];
const PRODUCTION: &[&str] = &["src/", "shards/src/", "io/src/", "tools/"];

#[test]
fn blanking_leaves_code_alone() {
    let text = concat!(
        "let a = \"x // y\"; // z\n",
        "let b = r#\"q\"t\"#; /* a /* b */ c */ d('\"', '\\'', 'x) <'l>\n"
    );
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    let words: Vec<_> = code.split_whitespace().collect();
    assert_eq!(words.join(" "), "let a = ; let b = ; d( , , 'x) <'l>");
    assert!(names("a::Mutex<u8>", "Mutex") && !names("a::MutexGuard", "Mutex"));
}

/// A `Cargo.toml`, section by section.
fn manifests() -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut manifests = BTreeMap::new();
    for path in files_with("toml") {
        if !path.ends_with("Cargo.toml") {
            continue;
        }
        let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut section = String::new();
        for line in fs::read_to_string(&path).unwrap().lines() {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                name.clone_into(&mut section);
            } else if !line.trim().is_empty() && !line.starts_with('#') {
                sections
                    .entry(section.clone())
                    .or_default()
                    .push(line.to_owned());
            }
        }
        manifests.insert(relative(&path), sections);
    }
    assert!(manifests.len() >= 4, "manifests: {:?}", manifests.keys());
    manifests
}

#[test]
fn only_io_depends_on_glommio() {
    let mut found = Vec::new();
    for (path, sections) in manifests() {
        for (section, lines) in sections {
            for line in lines {
                // Others may switch on the feature of `lightning-io` that has this name.
                let feature = line.starts_with("lightning-io");
                if path != "io/Cargo.toml" && names(&line, "glommio") && !feature {
                    found.push(format!("{path}: [{section}] {line}"));
                }
            }
        }
    }
    report("only io/ depends on glommio", &found);
    check_lines(
        &sources(&[
            "src/",
            "shards/",
            "tools/",
            "tests/",
            "benches/",
            "examples/",
        ]),
        "outside io/ glommio is reached through lightning_io::glommio alone",
        |line| names(&line.replace("lightning_io::glommio", ""), "glommio"),
    );
}

/// Items that anybody can name, each as one line from `pub` to its body.
fn public_signatures(source: &Source) -> Vec<(usize, String)> {
    let mut signatures = Vec::new();
    let lines: Vec<&str> = source.code.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if !line.trim_start().starts_with("pub ") || line.trim_start().starts_with("pub use ") {
            continue;
        }
        let mut signature = String::new();
        for line in &lines[number..] {
            signature.push_str(line.trim());
            signature.push(' ');
            if line.contains('{') || line.contains(';') || line.trim_end().ends_with(',') {
                break;
            }
        }
        signatures.push((number + 1, signature));
    }
    signatures
}

#[test]
fn no_glommio_type_is_in_a_public_signature() {
    let mut found = Vec::new();
    let mut checked = 0;
    for source in production(PRODUCTION) {
        let inside = source.path.starts_with("io/");
        let mut foreign = vec!["::glommio".to_owned()];
        for line in source.code.split(';') {
            let line = line.trim();
            if let Some(names) = line.strip_prefix("use ::glommio::") {
                let is_separator = |char: char| !char.is_alphanumeric() && char != '_';
                let is_type = |name: &&str| name.starts_with(char::is_uppercase);
                foreign.extend(names.split(is_separator).filter(is_type).map(str::to_owned));
            }
        }
        for (line, signature) in public_signatures(&source) {
            checked += 1;
            let ours = !inside && (signature.contains("Glommio") || names(&signature, "glommio"));
            if ours || foreign.iter().any(|name| names(&signature, name)) {
                found.push(format!("{}:{line}: {signature}", source.path));
            }
        }
    }
    assert!(checked > 300, "{checked} signatures");
    report("no type of glommio is in a public signature", &found);
}

#[test]
fn shards_see_the_world_through_env_alone() {
    let forbidden = [
        "std::thread",
        "thread",
        "atomic",
        "Mutex",
        "RwLock",
        "Condvar",
        "Instant",
        "SystemTime",
        "std::fs",
        "fs",
        "HashMap",
        "HashSet",
        "RandomState",
        "thread_local",
    ];
    let sources = production(&["shards/src/"]);
    assert!(sources.len() > 30, "{} files", sources.len());
    check_lines(
        &sources,
        "shards/ has no thread, clock, file or randomness of its own",
        |line| forbidden.iter().any(|word| names(line, word)),
    );
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("io/Cargo.toml", &[][..]),
        ("shards/Cargo.toml", &["lightning-io"]),
        ("Cargo.toml", &["lightning-io", "lightning-shards"]),
    ]);
    let mut found = Vec::new();
    for (path, sections) in manifests() {
        let may = allowed.get(path.as_str()).copied().unwrap_or_else(|| {
            // Tests of the inside see the inside; whoever is outside sees the library alone.
            if path.starts_with("tests/") {
                &[
                    "lightning-cli",
                    "lightning-db",
                    "lightning-io",
                    "lightning-shards",
                ]
            } else {
                &["lightning-db"]
            }
        });
        for (section, lines) in sections {
            if !section.ends_with("dependencies") || section.starts_with("workspace") {
                continue;
            }
            for line in lines {
                let name = line.split(['.', ' ', '=']).next().unwrap();
                if name.starts_with("lightning-") && !may.contains(&name) {
                    found.push(format!("{path}: [{section}] {line}"));
                }
            }
        }
    }
    report(
        "layers, tools -> lightning-db -> lightning-shards -> lightning-io",
        &found,
    );
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let mut found = Vec::new();
    for (path, sections) in manifests() {
        let takes = sections
            .get("lints")
            .is_some_and(|lines| lines == &["workspace = true"]);
        if sections.contains_key("package") && !takes {
            found.push(format!("{path}: no [lints] workspace = true"));
        }
    }
    report("every crate takes the lints of the workspace", &found);
}

#[test]
fn unsafe_code_is_where_it_belongs_and_explains_itself() {
    let homes = [
        "io/src/buffer.rs",
        "io/src/mesh/",
        "io/src/glommio/",
        // Allocators that count, and the compiler's counters of coverage.
        "tests/hot_path.rs",
        "tests/fuzz/src/memory.rs",
        "tests/fuzz/src/coverage.rs",
        "tests/it/tidy.rs",
    ];
    let mut found = Vec::new();
    for source in sources(ALL) {
        let texts: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.code.lines().enumerate() {
            if !names(line, "unsafe") {
                continue;
            }
            let home = homes.iter().any(|home| source.path.starts_with(home));
            let opens = ["unsafe {", "unsafe impl"]
                .iter()
                .any(|word| line.contains(word));
            // The explanation stands above the statement, which may begin some lines earlier.
            let above = number.saturating_sub(8);
            let explained = texts[above..=number]
                .iter()
                .any(|text| text.contains("// SAFETY:"));
            if !home || opens && !explained {
                found.push(format!(
                    "{}:{}: {}",
                    source.path,
                    number + 1,
                    texts[number].trim()
                ));
            }
        }
    }
    report(
        "unsafe code is in few places, each block with // SAFETY:",
        &found,
    );
}

#[test]
fn production_code_leaves_nothing_undone() {
    let sources = production(&["src/", "shards/", "io/", "tools/", "examples/"]);
    check_lines(&sources, "no unwrap() outside of tests", |line| {
        line.contains(".unwrap()")
    });
    check_lines(&sources, "nothing left to do or to debug", |line| {
        ["todo!", "unimplemented!", "dbg!"]
            .iter()
            .any(|word| line.contains(word))
    });
    let mut found = Vec::new();
    for source in self::sources(ALL) {
        // This file has to name them.
        if source.path.ends_with("tidy.rs") {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            if ["TODO", "FIXME", "XXX", "HACK"]
                .iter()
                .any(|word| names(line, word))
            {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    report("notes about work to do belong elsewhere", &found);
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut found = Vec::new();
    for source in sources(ALL) {
        let is_test = source.path.ends_with("tests.rs") || source.path.contains("/tests/");
        // Tests beside the code are described by the module that they test.
        let is_described = is_test && source.path.contains("src/");
        if !source.text.starts_with("//! ") && !is_described {
            found.push(format!(
                "{}:1: {}",
                source.path,
                source.text.lines().next().unwrap_or("")
            ));
        }
    }
    report("every module begins with //!", &found);
}

#[test]
fn lines_are_not_too_long() {
    let mut found = Vec::new();
    for source in sources(ALL) {
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                found.push(format!("{}:{}: {columns} columns", source.path, number + 1));
            }
        }
    }
    assert!(
        found.len() <= LONG_LINES,
        "{} lines have more than {COLUMNS_MAX} columns, at most {LONG_LINES} did before\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn files_are_not_too_long() {
    let known: BTreeMap<&str, usize> = LONG_FILES.iter().copied().collect();
    let mut found = Vec::new();
    let mut long = BTreeSet::new();
    for source in production(&[
        "src/",
        "shards/",
        "io/",
        "tools/",
        "tests/",
        "benches/",
        "examples/",
    ]) {
        let lines = source.code.lines().count();
        let most = known
            .get(source.path.as_str())
            .copied()
            .unwrap_or(LINES_AIM)
            .min(LINES_MAX);
        if lines > most {
            found.push(format!("{}: {lines} lines, at most {most}", source.path));
        }
        if lines > LINES_AIM {
            long.insert(source.path);
        }
    }
    for path in known.keys().filter(|path| !long.contains(**path)) {
        found.push(format!(
            "{path}: no longer over {LINES_AIM} lines; take it off the list"
        ));
    }
    report("the production part of a file holds one noun", &found);
}

#[test]
fn documents_have_one_title() {
    let mut found = Vec::new();
    for path in files_with("md") {
        let mut in_code = false;
        let mut titles = 0;
        for line in fs::read_to_string(&path).unwrap().lines() {
            in_code ^= line.starts_with("```");
            titles += usize::from(!in_code && line.starts_with("# "));
        }
        if titles != 1 {
            found.push(format!("{}: {titles} titles", relative(&path)));
        }
    }
    report("a document has one title", &found);
}

#[test]
fn the_project_has_what_a_reader_looks_for() {
    let mut found = Vec::new();
    for name in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
    ] {
        if fs::metadata(root().join(name)).map_or(0, |file| file.len()) == 0 {
            found.push(format!("{name} is missing or empty"));
        }
    }
    report("files at the root", &found);
}

#[test]
fn no_file_names_a_place_on_somebody_s_machine() {
    // Put together here, so that this file does not hold them itself.
    let places = [
        ["/ho", "me/"],
        ["/Us", "ers/"],
        ["/ro", "ot/"],
        ["/wo", "rk/"],
        ["C:\\", "Users"],
    ];
    let places: Vec<String> = places.iter().map(|parts| parts.concat()).collect();
    let mut files = Vec::new();
    walk(root(), &mut files);
    assert!(files.len() > 100, "{} files", files.len());
    let mut found = Vec::new();
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            if places.iter().any(|place| line.contains(place)) {
                found.push(format!("{}:{}: {line}", relative(&path), number + 1));
            }
        }
    }
    report("no path of somebody's machine", &found);
}

/// What stands between `before` and the next `after`, everywhere in a text.
fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    let pieces = text.split(before).skip(1);
    pieces.filter_map(move |rest| rest.split_once(after).map(|(name, _)| name))
}

#[test]
fn planted_bugs_are_listed_linted_and_planted() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (list, manifest) = (read("io/src/planted.rs"), read("Cargo.toml"));
    let bugs = between(&list, "\nbugs! {", "\n}\n").next().unwrap();
    let listed: BTreeSet<&str> = between(bugs, "\n    \"", "\": \"").collect();
    let mut linted: BTreeSet<&str> = between(&manifest, "planted, values(\"", "\")").collect();
    assert!(linted.remove("any"), "one build tries all of them");
    assert_eq!(listed, linted, "the list, and the lints in Cargo.toml");
    let sources = sources(&["src/", "shards/"]);
    let sites = sources
        .iter()
        .flat_map(|source| between(&source.text, "planted!(\"", "\")"));
    assert_eq!(listed, sites.collect(), "the list, and the sites");
}
