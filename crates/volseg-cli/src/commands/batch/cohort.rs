//! The page of a cohort.

use crate::{
    page::{STYLE, escape, figure},
    plots,
};
use std::{collections::BTreeMap, fmt::Write};
use volseg_engine::batch::{CaseRow, Cohort, Flag, Light};

/// Cases of the queue that are shown with a picture.
const PICTURES: usize = 24;
/// Rows of the queue; the whole of it stands in queue.csv.
const ROWS: usize = 500;

const OWN_STYLE: &str = ".red{color:#b3261e}.yellow{color:#8a6100}.green{color:#1a7f37}code{font-size:.85em}\
.pictures{display:flex;flex-wrap:wrap;gap:1rem}.pictures img{width:300px;display:block}td.left{text-align:left}";

/// The page. `missing` cases of the manifest, if that was given; `pictures`: whether the page lies beside the results.
pub(super) fn html(cohort: &Cohort, missing: Option<usize>, pictures: bool) -> anyhow::Result<String> {
    let count = |light: Light| cohort.cases.iter().filter(|c| c.quality.light == light).count();
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Cohort</title><style>{STYLE}{OWN_STYLE}</style></head><body><h1>Cohort</h1><p>{} cases done: \
         <span class=\"green\">{} green</span>, <span class=\"yellow\">{} yellow</span>, <span class=\"red\">{} red</span>. {} failed{}. \
         Research use only, not for diagnosis.</p>",
        cohort.cases.len(),
        count(Light::Green),
        count(Light::Yellow),
        count(Light::Red),
        cohort.failures.len(),
        missing.map_or(String::new(), |n| format!(", {n} missing"))
    );
    failures(&mut out, cohort);
    volumes(&mut out, cohort)?;
    queue(&mut out, cohort, pictures);
    out.push_str("</body></html>\n");
    Ok(out)
}

fn failures(out: &mut String, cohort: &Cohort) {
    if cohort.failures.is_empty() {
        return;
    }
    let mut kinds: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for f in &cohort.failures {
        *kinds.entry((f.kind.name(), f.stage.as_str(), f.reason.as_str())).or_default() += 1;
    }
    out.push_str("<h2>Failed</h2><div class=\"scroll\"><table><tr><th>kind</th><th>stage</th><th>reason</th><th>cases</th></tr>");
    for ((kind, stage, reason), n) in kinds {
        let _ = write!(
            out,
            "<tr><td>{kind}</td><td>{}</td><td class=\"left\">{}</td><td>{n}</td></tr>",
            escape(stage),
            escape(reason)
        );
    }
    out.push_str("</table></div>");
}

fn volumes(out: &mut String, cohort: &Cohort) -> anyhow::Result<()> {
    let organs = cohort.organs();
    let of = |id: u8, value: &dyn Fn(&volseg_engine::OrganStatistics) -> Option<f64>| -> Vec<f64> {
        let all = cohort.cases.iter().flat_map(|c| &c.statistics);
        all.filter(|s| s.id == id && s.voxels > 0).filter_map(value).filter(|v| v.is_finite()).collect()
    };
    if organs.is_empty() {
        return Ok(());
    }
    out.push_str("<h2>Organs</h2><div class=\"plots\">");
    let logs: Vec<(&str, Vec<f64>)> =
        organs.iter().map(|(id, name)| (&**name, of(*id, &|s| Some(s.volume_ml.max(1e-3).log10())))).collect();
    let (low, high) = ends(&logs);
    let reach = (low.floor(), high.ceil().max(low.floor() + 1.0));
    figure(out, &boxes(logs, "volume in ml, powers of ten", reach)?, "Volume by organ; a dot is a case.");
    let means: Vec<(&str, Vec<f64>)> = organs.iter().map(|(id, name)| (&**name, of(*id, &|s| s.mean))).collect();
    let (low, high) = ends(&means);
    figure(out, &boxes(means, "mean intensity (HU for CT)", (low - 5.0, high + 5.0))?, "Mean intensity inside each organ.");
    let found: Vec<(f64, f64)> = cohort
        .cases
        .iter()
        .map(|c| {
            let n = c.statistics.iter().filter(|s| s.voxels > 0).count();
            (c.dim[2] as f64 * c.spacing_mm[2], n as f64)
        })
        .collect();
    let svg = plots::points(&found, "extent along the third axis (mm)", "organs found")?;
    figure(out, &svg, "Organs found against the length of the scan; a point is a case.");
    out.push_str("</div><div class=\"scroll\"><table><tr><th>organ</th><th>found in</th><th>median (ml)</th><th>usual (ml)</th></tr>");
    for (id, name) in &organs {
        let n = of(*id, &|s| Some(s.volume_ml)).len();
        let range = cohort.ranges.iter().find(|r| r.organ == *name);
        let cell = range.map_or("<td>-</td><td>-</td>".into(), |r| {
            format!("<td>{:.1}</td><td>{:.1} to {:.1}</td>", r.median_ml, r.usual_ml[0], r.usual_ml[1])
        });
        let _ = write!(out, "<tr><td>{}</td><td>{n}</td>{cell}</tr>", escape(name));
    }
    out.push_str("</table></div><p>Usual: a robust z-score of the logarithm within 3.5; eight cases at least.</p>");
    Ok(())
}

fn boxes(rows: Vec<(&str, Vec<f64>)>, x: &str, ends: (f64, f64)) -> anyhow::Result<String> {
    let statistics: Vec<_> = rows.iter().map(|r| volseg_metrics::statistic(&r.1)).collect();
    let rows: Vec<_> = rows.into_iter().zip(&statistics).map(|((name, values), st)| (name, st, values)).collect();
    plots::boxes(&rows, x, ends)
}

fn ends(rows: &[(&str, Vec<f64>)]) -> (f64, f64) {
    let all = || rows.iter().flat_map(|r| &r.1).copied();
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    if low.is_finite() && high.is_finite() { (low, high) } else { (0.0, 1.0) }
}

fn queue(out: &mut String, cohort: &Cohort, pictures: bool) {
    let queue = cohort.queue();
    let _ = write!(
        out,
        "<h2>To look at, worst first</h2><p>{} cases. A light is a reason to look, not a judgement of the patient. All of them stand in queue.csv.</p>",
        queue.len()
    );
    if pictures {
        out.push_str("<div class=\"pictures\">");
        for case in queue.iter().take(PICTURES) {
            let folder = format!("{}/{}", case.case_id.get(..2).unwrap_or_default(), case.case_id);
            let _ = write!(
                out,
                "<figure><a href=\"{folder}/preview.png\"><img loading=\"lazy\" src=\"{folder}/preview.png\" alt=\"slices with organs\"></a>\
                 <figcaption><code>{}</code> <span class=\"{light}\">{light}</span></figcaption></figure>",
                short(case),
                light = case.quality.light.name()
            );
        }
        out.push_str("</div>");
    }
    out.push_str("<div class=\"scroll\"><table><tr><th>case</th><th>light</th><th>score</th><th>reasons</th></tr>");
    for case in queue.iter().take(ROWS) {
        let mut flags: Vec<&Flag> = case.quality.flags.iter().collect();
        flags.sort_by_key(|f| std::cmp::Reverse(f.light));
        let reasons: Vec<String> = flags.into_iter().map(reason).collect();
        let _ = write!(
            out,
            "<tr><td><code>{}</code></td><td class=\"{light}\">{light}</td><td>{:.2}</td><td class=\"left\">{}</td></tr>",
            case.case_id,
            case.quality.score,
            reasons.join("; "),
            light = case.quality.light.name()
        );
    }
    out.push_str("</table></div>");
}

fn short(case: &CaseRow) -> &str {
    case.case_id.get(..12).unwrap_or(&case.case_id)
}

/// A flag as a sentence.
fn reason(flag: &Flag) -> String {
    let organ = escape(flag.organ.as_deref().unwrap_or_default());
    let value = flag.value.unwrap_or(f64::NAN);
    match flag.rule.as_str() {
        "nothing_found" => "nothing found".into(),
        "input" => "the input is unusual (result.json says how)".into(),
        "candidates" => format!("{organ}: masks at thresholds 0.3 and 0.6 agree by {value:.2} only"),
        "confidence" => format!("{organ}: predicted IoU {value:.2}"),
        "components" => format!("{organ}: {:.0} % in the largest part", 100.0 * value),
        "border" => format!("{organ}: touches the side of the field of view"),
        "left_right" => format!("{organ}: on the wrong side"),
        "up_down" => format!("{organ}: too low"),
        "volume" => format!("{organ}: volume unusual (z {value:.1})"),
        "position" => format!("{organ}: position unusual (z {value:.1})"),
        "missing" => format!("{organ}: not found, but in {:.0} % of the others", 100.0 * value),
        other => format!("{organ}: {}", escape(other)),
    }
}
