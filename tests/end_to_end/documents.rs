//! README and book: every page is listed, every link leads somewhere, every command line is one that the program knows.
use crate::volseg;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

/// Targets of `](target)` outside code blocks.
fn links(markdown: &str) -> Vec<String> {
    let prose: String = markdown.split("```").step_by(2).collect();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.split('#').next().unwrap().to_owned()).filter(|t| !t.is_empty()).collect()
}

fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("SECURITY.md")];
    pages(&root().join("docs"), &mut found);
    found
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in documents() {
        for link in links(&fs::read_to_string(&page).unwrap()) {
            if !link.contains("://") && !link.starts_with("mailto:") {
                assert!(page.parent().unwrap().join(&link).exists(), "{}: {link}", page.display());
            }
        }
    }
}

#[test]
fn every_page_stands_in_the_summary() {
    let book = root().join("docs");
    let listed: BTreeSet<PathBuf> =
        links(&fs::read_to_string(book.join("SUMMARY.md")).unwrap()).iter().map(|l| book.join(l)).collect();
    let mut all = Vec::new();
    pages(&book, &mut all);
    for page in all {
        assert!(page.ends_with("SUMMARY.md") || listed.contains(&page), "{} is not in SUMMARY.md", page.display());
    }
}

/// Lines in `console` blocks that start with `$ volseg NAME`: the command must exist and know each long option.
#[test]
fn commands_in_the_documents_are_understood() {
    let mut seen = 0;
    for page in documents() {
        let markdown = fs::read_to_string(&page).unwrap();
        for line in markdown.lines().filter_map(|l| l.strip_prefix("$ volseg ")) {
            let words: Vec<&str> = line.split_whitespace().take_while(|w| !["|", ">", "&&"].contains(w)).collect();
            let commands: Vec<&str> =
                words.iter().take_while(|w| w.chars().all(|c| c.is_ascii_lowercase())).copied().collect();
            let help = (1..=commands.len()).rev().find_map(|n| {
                let output = volseg().args(&commands[..n]).arg("--help").output().unwrap();
                output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
            });
            if words.first().is_some_and(|w| w.starts_with('-')) {
                continue;
            }
            let help = help.unwrap_or_else(|| panic!("{}: no such command: volseg {line}", page.display()));
            for option in words.iter().filter(|w| w.starts_with("--")) {
                let name = option.split('=').next().unwrap();
                assert!(help.contains(name), "{}: volseg {line}: no option {name}", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
}
