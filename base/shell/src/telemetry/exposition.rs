//! Merging the pages of several registries. A metric that two roles have may be described only once, and all its
//! samples must stand together.

use std::collections::BTreeMap;

/// What follows a family's name in the names of its samples.
const SUFFIXES: [&str; 6] = ["_total", "_created", "_sum", "_count", "_bucket", "_info"];

#[derive(Default)]
struct Family<'a> {
    kind: &'a str,
    described: Vec<(&'a str, &'a str)>,
    samples: Vec<&'a str>,
}

/// Merges OpenMetrics pages, families in order of name. The older form is the same but for counters, whose
/// descriptions there bear the samples' name, and the end mark.
pub(super) fn merge(pages: &[String], open_metrics: bool) -> String {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for page in pages {
        for line in page.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (Some(keyword), Some(name)) = (words.next(), words.next()) else { continue };
                let text = words.next().unwrap_or_default();
                let family = families.entry(name).or_default();
                if keyword == "TYPE" {
                    family.kind = text;
                }
                if !family.described.iter().any(|(known, _)| *known == keyword) {
                    family.described.push((keyword, text));
                }
            } else if !line.is_empty() {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                let base = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
                let known = base.filter(|base| families.contains_key(base)).unwrap_or(name);
                families.entry(known).or_default().samples.push(line);
            }
        }
    }
    let mut out = String::new();
    for (name, family) in families {
        let total = if family.kind == "counter" && !open_metrics { "_total" } else { "" };
        for (keyword, text) in family.described {
            if open_metrics || keyword != "UNIT" {
                out.push_str(&format!("# {keyword} {name}{total} {text}\n"));
            }
        }
        for sample in family.samples {
            out.push_str(sample);
            out.push('\n');
        }
    }
    if open_metrics {
        out.push_str("# EOF\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_described_once() {
        let pages = [
            "# HELP a Things.\n# TYPE a counter\na_total{role=\"x\"} 1\n# HELP b Level.\n# TYPE b gauge\nb 2\n# EOF\n".to_string(),
            "# HELP a Things.\n# TYPE a counter\na_total{role=\"y\"} 3\n# HELP h Times.\n# TYPE h histogram\n# UNIT h seconds\nh_sum 0.5\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n# EOF\n".to_string(),
        ];
        let open = "# HELP a Things.\n# TYPE a counter\na_total{role=\"x\"} 1\na_total{role=\"y\"} 3\n# HELP b Level.\n# TYPE b gauge\nb 2\n# HELP h Times.\n# TYPE h histogram\n# UNIT h seconds\nh_sum 0.5\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n# EOF\n";
        assert_eq!(merge(&pages, true), open);
        let older = merge(&pages, false);
        assert!(
            older.contains("# TYPE a_total counter\n") && older.contains("# TYPE h histogram\n")
        );
        assert!(!older.contains("EOF") && !older.contains("UNIT"));
    }
}
