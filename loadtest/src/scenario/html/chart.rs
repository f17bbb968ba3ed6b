//! Curves as SVG.

use std::fmt::Write as _;

use super::super::junit::escape;

/// The size of a chart, and what is around its curves.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 242.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 42.0;
const BOTTOM: f64 = 26.0;

/// The room that the number of a band takes; of two that are closer, the second is above the first.
const NUMBER: f64 = 15.0;

/// Curves of different dashes are told apart also without colours.
const DASHES: [&str; 3] = ["", "6 3", "2 3"];

/// How the values of a chart are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0 on.
    Linear,
    /// Ten times as much is the same distance everywhere.
    Log,
}

/// A curve.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) color: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A time that is marked.
#[derive(Debug)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) name: String,
    /// What it was, for who points at it.
    pub(super) what: String,
}

/// Curves in time.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) unit: &'static str,
    pub(super) scale: Scale,
    pub(super) width_s: f64,
    pub(super) series: Vec<Series>,
    pub(super) bands: Vec<Band>,
    pub(super) marks: Vec<f64>,
}

/// The values of an axis: from, to, and those that have a line.
#[derive(Debug, Clone, PartialEq)]
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let most = values.clone().fold(0.0, f64::max);
        match scale {
            Scale::Linear => {
                let step = step_of(most.max(1e-9) / 4.0);
                let count = (most / step).ceil().clamp(1.0, 10.0) as usize;
                let ticks: Vec<f64> = (0..=count).map(|n| n as f64 * step).collect();
                Self { scale, from: 0.0, to: count as f64 * step, ticks }
            }
            Scale::Log => {
                let least = values.filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
                let least = if least.is_finite() { least } else { 1.0 };
                let (low, high) = (least.log10().floor(), most.max(least).log10().ceil());
                let high = high.max(low + 1.0);
                let decades = (high - low) as i32;
                let ticks = (0..=decades).map(|n| 10_f64.powf(low + f64::from(n))).collect();
                Self { scale, from: 10_f64.powf(low), to: 10_f64.powf(high), ticks }
            }
        }
    }

    /// Where a value is, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => {
                let log = |value: f64| value.max(self.from).log10();
                (log(value) - log(self.from)) / (log(self.to) - log(self.from))
            }
        };
        place.clamp(0.0, 1.0)
    }
}

/// A round number of that size: 1, 2 or 5 and noughts.
fn step_of(size: f64) -> f64 {
    let power = 10_f64.powf(size.log10().floor());
    let of = size / power;
    power
        * if of <= 1.0 {
            1.0
        } else if of <= 2.0 {
            2.0
        } else if of <= 5.0 {
            5.0
        } else {
            10.0
        }
}

fn label(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn y(place: f64) -> f64 {
    HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM)
}

fn x(place: f64) -> f64 {
    LEFT + place.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

/// A drawing that begins with its title, the values of its axis and the names of its curves.
fn begin(title: &str, unit: &str, axis: &Axis, series: &[Series]) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n<text x=\"{LEFT}\" \
         y=\"16\" class=\"title\">{title}</text>\n"
    );
    let right = WIDTH - RIGHT;
    for tick in &axis.ticks {
        let at = y(axis.place(*tick));
        // A string takes everything, here and below.
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" class=\"grid\"/><text \
             x=\"{:.1}\" y=\"{:.1}\" class=\"left\">{} {unit}</text>",
            LEFT - 6.0,
            at + 3.5,
            label(*tick),
        );
    }
    let mut end = right;
    for (at, series) in series.iter().enumerate().rev() {
        let name = escape(&series.name);
        let _ = writeln!(
            svg,
            "<text x=\"{end:.1}\" y=\"16\" class=\"left\" fill=\"{0}\">{name}</text><line x1=\"{1:.1}\" \
             x2=\"{2:.1}\" y1=\"12\" y2=\"12\" stroke=\"{0}\" class=\"curve\" \
             stroke-dasharray=\"{3}\"/>",
            series.color,
            end - 7.0 * series.name.len() as f64 - 26.0,
            end - 7.0 * series.name.len() as f64 - 6.0,
            DASHES.get(at % DASHES.len()).copied().unwrap_or_default(),
        );
        end -= 7.0 * series.name.len() as f64 + 42.0;
    }
    svg
}

fn draw(svg: &mut String, series: &[Series], axis: &Axis, across: impl Fn(f64) -> f64) {
    for (at, series) in series.iter().enumerate() {
        let points: Vec<String> = series
            .points
            .iter()
            .map(|(of, value)| format!("{:.1},{:.1}", x(across(*of)), y(axis.place(*value))))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" stroke=\"{}\" class=\"curve\" stroke-dasharray=\"{}\"/>",
            points.join(" "),
            series.color,
            DASHES.get(at % DASHES.len()).copied().unwrap_or_default(),
        );
    }
}

impl Chart {
    /// The drawing.
    pub(super) fn svg(&self) -> String {
        let values = self.series.iter().flat_map(|it| it.points.iter().map(|(_, value)| *value));
        let axis = Axis::new(self.scale, values);
        let title = format!("{}, {}", self.title, self.unit);
        let width = self.width_s.max(1e-9);
        let across = |seconds: f64| seconds / width;
        let (top, bottom) = (TOP, HEIGHT - BOTTOM);
        let mut bands = String::new();
        let mut taken = f64::NEG_INFINITY;
        for band in &self.bands {
            let (from, to) = (x(across(band.from)), x(across(band.to)));
            let wide = (to - from).max(2.0);
            // Above the curves, which it would hide.
            let is_close = from - taken < NUMBER;
            taken = if is_close { f64::NEG_INFINITY } else { from };
            let _ = writeln!(
                bands,
                "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{wide:.1}\" height=\"{:.1}\" \
                 class=\"band\"><title>{}</title></rect><text x=\"{from:.1}\" y=\"{:.1}\" \
                 class=\"number\">{}</text>",
                bottom - top,
                escape(&band.what),
                top - if is_close { 13.0 } else { 3.0 },
                escape(&band.name),
            );
        }
        for mark in &self.marks {
            let at = x(across(*mark));
            let _ = writeln!(
                bands,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\" class=\"phase\"/>"
            );
        }
        let mut svg = begin(&title, "", &axis, &self.series);
        svg.push_str(&bands);
        let step = step_of(width / 8.0);
        let ticks = (0..=20).map(|n| f64::from(n) * step).take_while(|at| *at <= width * 1.001);
        for tick in ticks {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" class=\"below\">{} s</text>",
                x(across(tick)),
                HEIGHT - 8.0,
                label(tick),
            );
        }
        draw(&mut svg, &self.series, &axis, across);
        svg.push_str("</svg>\n");
        svg
    }
}

/// Curves of percentiles: each nine behind the point is as wide as all before it.
pub(super) fn percentiles(series: Vec<Series>) -> String {
    // The last one of all has no place on such an axis; it is where the last nine ends.
    let across = |of: f64| (-(1.0 - (of / 100.0).min(0.999_99)).log10() / 5.0).clamp(0.0, 1.0);
    let values = series.iter().flat_map(|it| it.points.iter().map(|(_, value)| *value));
    let axis = Axis::new(Scale::Log, values);
    let mut svg = begin("Latency by percentile, ms", "", &axis, &series);
    for of in [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0] {
        let at = x(across(of));
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" class=\"grid\"/><text \
             x=\"{at:.1}\" y=\"{:.1}\" class=\"below\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - 8.0,
            if of >= 100.0 { "max".to_owned() } else { label(of) },
        );
    }
    draw(&mut svg, &series, &axis, across);
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_axis_has_round_values() {
        let axis = Axis::new(Scale::Linear, [3.0, 870.0].into_iter());
        assert_eq!(axis.ticks, [0.0, 500.0, 1_000.0]);
        let axis = Axis::new(Scale::Log, [0.4, 870.0].into_iter());
        let texts: Vec<_> = axis.ticks.iter().map(|tick| label(*tick)).collect();
        assert_eq!(texts, ["0.1", "1", "10", "100", "1000"]);
    }

    proptest! {
        #[test]
        fn every_value_has_a_place_in_the_drawing(values in prop::collection::vec(0.0..1e7_f64, 0..20)) {
            for scale in [Scale::Linear, Scale::Log] {
                let axis = Axis::new(scale, values.iter().copied());
                for value in &values {
                    let at = y(axis.place(*value));
                    prop_assert!((TOP..=HEIGHT - BOTTOM).contains(&at), "{at} for {value} in {axis:?}");
                }
            }
        }
    }
}
