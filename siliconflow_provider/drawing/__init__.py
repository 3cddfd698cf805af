"""Draw HTML: the report of a job, and the pages in Airflow's UI. Knows neither Airflow nor the service nor files.

In: texts, numbers and times. Out: `Markup`, or a whole document. Start reading at `markup.py`.
"""
