"""Airflow connections to SiliconFlow."""
