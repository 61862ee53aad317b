//! Curves as SVG, both axes logarithmic.

use std::fmt::Write as _;

/// Several curves in one picture.
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) lines: Vec<(&'static str, Vec<(u64, f64)>)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// The margins around the axes; the right one has room for the names.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 36.0;
const COLOURS: [&str; 8] =
    ["#0b62a4", "#11b5b5", "#d1495b", "#2e8b57", "#8e5ea2", "#e08e0b", "#777777", "#222222"];

/// A mapping from values to positions between two limits.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::MAX, f64::min).max(1e-3);
        let most = values.fold(least, f64::max);
        Self {
            from: least.log10().floor(),
            to: most.log10().ceil().max(least.log10().floor() + 1.0),
        }
    }

    fn place(&self, value: f64) -> f64 {
        (value.max(1e-3).log10() - self.from) / (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        let (from, to) = (self.from, self.to);
        (0..)
            .map(move |n| from + f64::from(n))
            .take_while(move |n| *n <= to)
            .map(|n| 10_f64.powf(n))
    }
}

/// Returns the picture.
pub(crate) fn svg(plot: &Plot) -> String {
    let points = || plot.lines.iter().flat_map(|(_, points)| points);
    let x = Axis::over(points().map(|(nodes, _)| *nodes as f64));
    let y = Axis::over(points().map(|(_, value)| *value));
    let at_x = |nodes: f64| LEFT + x.place(nodes) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}, {}</text>\n",
        plot.title, plot.unit
    );
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for value in y.decades() {
        line(&mut out, &[(LEFT, at_y(value)), (right, at_y(value))], "#dddddd");
        text(&mut out, (LEFT - 6.0, at_y(value) + 4.0), "end", &value.to_string());
    }
    for nodes in x.decades() {
        line(&mut out, &[(at_x(nodes), TOP), (at_x(nodes), bottom)], "#dddddd");
        text(&mut out, (at_x(nodes), bottom + 16.0), "middle", &nodes.to_string());
    }
    text(&mut out, (right + 8.0, bottom + 16.0), "start", "nodes");
    for ((nth, (name, points)), colour) in plot.lines.iter().enumerate().zip(COLOURS.iter().cycle())
    {
        let places = points.iter().map(|(nodes, value)| (at_x(*nodes as f64), at_y(*value)));
        let places: Vec<(f64, f64)> = places.collect();
        line(&mut out, &places, colour);
        for (x, y) in &places {
            let _ =
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let y = TOP + 14.0 * (nth as f64 + 1.0);
        line(&mut out, &[(right + 12.0, y - 4.0), (right + 30.0, y - 4.0)], colour);
        text(&mut out, (right + 36.0, y), "start", name);
    }
    out.push_str("</svg>\n");
    out
}

fn line(out: &mut String, places: &[(f64, f64)], colour: &str) {
    let places: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let places = places.join(" ");
    let _ = writeln!(
        out,
        "<polyline points=\"{places}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
    );
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}
