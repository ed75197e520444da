"""Dashboards as code: `python -m dashboards` writes dashboards/grafana/*.json, which is committed."""
