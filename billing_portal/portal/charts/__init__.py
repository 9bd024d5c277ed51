"""From amounts to geometry: pure functions whose results the chart components draw as SVG.

Horizontal places and widths are percentages of the plot and vertical ones are pixels, so that one drawing fits a phone
and a desk with its text at full size, and no inline style is needed. Amounts are integer micros throughout.
"""
