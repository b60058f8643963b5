//! Curves as SVG files.

use std::path::Path;

use plotters::prelude::*;

use crate::Failure;

const COLOURS: [RGBColor; 2] = [RGBColor(0x9a, 0xa0, 0xa6), RGBColor(0x1a, 0x73, 0xe8)];

/// Draws lines through points; the horizontal axis is logarithmic, the vertical one begins at 0.
pub(crate) fn draw(path: &Path, x: &str, y: &str, lines: &[(&str, &[(f64, f64)])]) -> Result<(), Failure> {
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let left = points().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
    let right = points().map(|(x, _)| x).fold(0.0, f64::max);
    let top = points().map(|(_, y)| y).fold(0.0, f64::max);
    let area = SVGBackend::new(path, (720, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d((left..right).log_scale(), 0.0..top * 1.1)?;
    let number = |number: &f64| match number {
        number if *number >= 1e6 => format!("{}M", number / 1e6),
        number if *number >= 1e4 => format!("{}k", number / 1e3),
        number => format!("{number}"),
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .label_style(("sans-serif", 13))
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = ShapeStyle::from(colour).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(TRANSPARENT)
        .label_font(("sans-serif", 13))
        .draw()?;
    area.present()?;
    Ok(())
}
