//! Pieces of HTML pages: one file, plots as SVG, no script, nothing from the network.

use std::fmt::Write;

/// Style of all pages.
pub(crate) const STYLE: &str = "\
:root{color-scheme:light}*{box-sizing:border-box}\
body{font:16px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif;max-width:1240px;margin:0 auto;padding:1.5rem 1.5rem 4rem;color:#1b1f24;background:#fff}\
h1{font-size:1.7rem;margin:.5rem 0}h2{font-size:1.25rem;margin:2.4rem 0 .8rem;padding-bottom:.3rem;border-bottom:2px solid #d8dee4}\
p,li{max-width:80ch}.lead{color:#57606a;margin:.2rem 0 1rem}\
.cards{display:flex;flex-wrap:wrap;gap:.8rem;margin:1rem 0}.card{border:1px solid #d8dee4;border-radius:8px;padding:.7rem 1.1rem;min-width:10rem}\
.card b{display:block;font-size:1.6rem;line-height:1.2;font-variant-numeric:tabular-nums}.card span{color:#57606a;font-size:.9rem}\
.note{border-left:4px solid #d4a72c;background:#fff8e6;padding:.5rem 1rem;margin:1rem 0;max-width:none}.note ul{margin:.2rem 0;padding-left:1.2rem}.note li{max-width:none}\
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.86rem}\
th,td{padding:.28rem .42rem;text-align:right;white-space:nowrap;border-bottom:1px solid #e7ebef}th{border-bottom:2px solid #aab4be;vertical-align:bottom}\
th:first-child,td:first-child{text-align:left}tbody tr:nth-child(even){background:#f6f8fa}tbody tr.sum td{font-weight:600;background:#fff}tbody tr:not(.sum,.more)+tr.sum td{border-top:2px solid #aab4be}\
tbody tr.more td{background:#fff;font-size:.92em}small{color:#57606a;font-size:.8em;font-weight:400}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,470px),1fr));gap:1.6rem;align-items:start}\
.worst{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:1.2rem}\
figure{margin:0;break-inside:avoid}figure svg{display:block;width:100%;height:auto}\
.worst svg{height:270px;background:#101418;border-radius:6px;padding:6px}\
figcaption{font-size:.92rem;color:#424a53;margin-top:.4rem}.key{display:flex;flex-wrap:wrap;gap:.4rem 1.4rem;padding:0;list-style:none}\
.key i{display:inline-block;width:.95em;height:.95em;border-radius:3px;margin-right:.45em;vertical-align:-.1em;border:1px solid #8c959f}\
@media print{@page{size:A4;margin:13mm}body{max-width:none;padding:0;font-size:9.5pt}h1{font-size:16pt}h2{font-size:12pt;margin-top:1.2em}h2,h2+p,.key{break-after:avoid}figcaption{font-size:8pt}\
table{font-size:7.6pt}th,td{padding:.13rem .3rem}thead{display:table-header-group}tr{break-inside:avoid}.scroll{overflow:visible}\
.plots{grid-template-columns:1fr 1fr;gap:5mm}.worst{grid-template-columns:1fr 1fr 1fr;gap:4mm}.worst svg{height:44mm}\
.card{padding:.3rem .7rem}.card b{font-size:13pt}.worst svg,.key i,.note,tbody tr{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

/// Text that is safe inside HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A plot with its caption.
pub(crate) fn figure(out: &mut String, svg: &str, caption: &str) {
    let _ = write!(out, "<figure>{svg}<figcaption>{caption}</figcaption></figure>");
}
