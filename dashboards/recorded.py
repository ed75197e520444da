"""Panels that need hardware, tried without it: a test for promtool, with series as a metered host has them."""

import json
from pathlib import Path

from dashboards.queries import may_be_empty, queries

PACKAGE = 'source="rapl:package-0",scope="package"'
CPU = 'phase="train",component="cpu",scope="package"'
MEASURED, DERIVED = 'quality="measured"', 'quality="derived"'

SERIES = {
    f'wattbed_energy_source_info{{host="h",device="a",{PACKAGE},{MEASURED}}}': "1x60",
    f'wattbed_energy_source_info{{host="h",device="b",{PACKAGE},{DERIVED}}}': "1x60",
    'wattbed_power_watts{host="h",device="a",source="rapl:package-0",component="cpu"}': "30x60",
    'wattbed_power_watts{host="h",device="b",source="rapl:package-0",component="cpu"}': "20x60",
    f'wattbed_agent_energy_joules_total{{agent="a",{CPU},{MEASURED}}}': "0+150x60",
    f'wattbed_agent_energy_joules_total{{agent="b",{CPU},{DERIVED}}}': "0+100x60",
    f'wattbed_assignment_energy_joules_total{{device="a",{CPU},source="rapl:package-0",{MEASURED}}}': "0+150x60",
    f'wattbed_assignment_energy_joules_total{{device="b",{CPU},source="rapl:package-0",{DERIVED}}}': "0+100x60",
    f'wattbed_host_energy_joules_total{{host="h",component="cpu",scope="package",{MEASURED}}}': "0+250x60",
    'wattbed_rail_energy_joules_total{host="h",source="rapl",rail="core"}': "0+90x60",
    'ALERTS{alertname="WattbedMeterLost",alertstate="firing",severity="warning",device="a",source="rapl"}': "1x60",
}


def promtool_test(rules: Path) -> str:
    """For `promtool test rules`, which reads JSON too: a query of each panel that may be empty finds something."""
    hidden = [a for a in queries("e", "package", "measured") if (a.dashboard, a.panel) in may_be_empty()]
    found = [
        {
            "expr": f"count({a.expr}) > bool 0",
            "eval_time": "4m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for a in hidden
    ]
    test = {
        "interval": "5s",
        "input_series": [{"series": series, "values": values} for series, values in SERIES.items()],
        "promql_expr_test": found,
    }
    return json.dumps({"rule_files": [str(rules)], "evaluation_interval": "5s", "tests": [test]})
