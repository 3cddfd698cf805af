"""Airflow operators for SiliconFlow batch inference."""
