"""Columns of the tables of OMOP CDM 5.4 that are written and read, in the model's order, with their types.

Source: OHDSI, "OMOP Common Data Model", version 5.4, field level.
"""

from __future__ import annotations

TYPES = {"i": "INTEGER", "f": "DOUBLE", "s": "VARCHAR", "d": "DATE", "t": "TIMESTAMP"}

# Table -> "column:type ..."
_COLUMNS = {
    "person": (
        "person_id:i gender_concept_id:i year_of_birth:i month_of_birth:i day_of_birth:i birth_datetime:t "
        "race_concept_id:i ethnicity_concept_id:i location_id:i provider_id:i care_site_id:i "
        "person_source_value:s gender_source_value:s gender_source_concept_id:i race_source_value:s "
        "race_source_concept_id:i ethnicity_source_value:s ethnicity_source_concept_id:i"
    ),
    "observation_period": (
        "observation_period_id:i person_id:i observation_period_start_date:d observation_period_end_date:d "
        "period_type_concept_id:i"
    ),
    "visit_occurrence": (
        "visit_occurrence_id:i person_id:i visit_concept_id:i visit_start_date:d visit_start_datetime:t "
        "visit_end_date:d visit_end_datetime:t visit_type_concept_id:i provider_id:i care_site_id:i "
        "visit_source_value:s visit_source_concept_id:i admitted_from_concept_id:i "
        "admitted_from_source_value:s discharged_to_concept_id:i discharged_to_source_value:s "
        "preceding_visit_occurrence_id:i"
    ),
    "condition_occurrence": (
        "condition_occurrence_id:i person_id:i condition_concept_id:i condition_start_date:d "
        "condition_start_datetime:t condition_end_date:d condition_end_datetime:t "
        "condition_type_concept_id:i condition_status_concept_id:i stop_reason:s provider_id:i "
        "visit_occurrence_id:i visit_detail_id:i condition_source_value:s "
        "condition_source_concept_id:i condition_status_source_value:s"
    ),
    "drug_exposure": (
        "drug_exposure_id:i person_id:i drug_concept_id:i drug_exposure_start_date:d "
        "drug_exposure_start_datetime:t drug_exposure_end_date:d drug_exposure_end_datetime:t "
        "verbatim_end_date:d drug_type_concept_id:i stop_reason:s refills:i quantity:f days_supply:i sig:s "
        "route_concept_id:i lot_number:s provider_id:i visit_occurrence_id:i visit_detail_id:i "
        "drug_source_value:s drug_source_concept_id:i route_source_value:s dose_unit_source_value:s"
    ),
    "device_exposure": (
        "device_exposure_id:i person_id:i device_concept_id:i device_exposure_start_date:d "
        "device_exposure_start_datetime:t device_exposure_end_date:d device_exposure_end_datetime:t "
        "device_type_concept_id:i unique_device_id:s production_id:s quantity:i provider_id:i "
        "visit_occurrence_id:i visit_detail_id:i device_source_value:s device_source_concept_id:i "
        "unit_concept_id:i unit_source_value:s unit_source_concept_id:i"
    ),
    "measurement": (
        "measurement_id:i person_id:i measurement_concept_id:i measurement_date:d measurement_datetime:t "
        "measurement_time:s measurement_type_concept_id:i operator_concept_id:i value_as_number:f "
        "value_as_concept_id:i unit_concept_id:i range_low:f range_high:f provider_id:i "
        "visit_occurrence_id:i visit_detail_id:i measurement_source_value:s measurement_source_concept_id:i "
        "unit_source_value:s unit_source_concept_id:i value_source_value:s measurement_event_id:i "
        "meas_event_field_concept_id:i"
    ),
    "observation": (
        "observation_id:i person_id:i observation_concept_id:i observation_date:d observation_datetime:t "
        "observation_type_concept_id:i value_as_number:f value_as_string:s value_as_concept_id:i "
        "qualifier_concept_id:i unit_concept_id:i provider_id:i visit_occurrence_id:i visit_detail_id:i "
        "observation_source_value:s observation_source_concept_id:i unit_source_value:s "
        "qualifier_source_value:s value_source_value:s observation_event_id:i obs_event_field_concept_id:i"
    ),
    "death": (
        "person_id:i death_date:d death_datetime:t death_type_concept_id:i cause_concept_id:i "
        "cause_source_value:s cause_source_concept_id:i"
    ),
    "cost": (
        "cost_id:i cost_event_id:i cost_domain_id:s cost_type_concept_id:i currency_concept_id:i "
        "total_charge:f total_cost:f total_paid:f paid_by_payer:f paid_by_patient:f paid_patient_copay:f "
        "paid_patient_coinsurance:f paid_patient_deductible:f paid_by_primary:f paid_ingredient_cost:f "
        "paid_dispensing_fee:f payer_plan_period_id:i amount_allowed:f revenue_code_concept_id:i "
        "revenue_code_source_value:s drg_concept_id:i drg_source_value:s"
    ),
    "cdm_source": (
        "cdm_source_name:s cdm_source_abbreviation:s cdm_holder:s source_description:s "
        "source_documentation_reference:s cdm_etl_reference:s source_release_date:d cdm_release_date:d "
        "cdm_version:s cdm_version_concept_id:i vocabulary_version:s"
    ),
}
TABLES: dict[str, dict[str, str]] = {
    table: {name: TYPES[kind] for name, _, kind in (field.partition(":") for field in fields.split())}
    for table, fields in _COLUMNS.items()
}

# What is read of each table; others may be absent. With "?": null where a region has no such column.
READ: dict[str, tuple[str, ...]] = {
    "person": (
        *("person_id", "gender_concept_id", "year_of_birth"),
        *("month_of_birth?", "day_of_birth?", "birth_datetime?"),
    ),
    "observation_period": ("person_id", "observation_period_start_date", "observation_period_end_date"),
    "visit_occurrence": (
        *("visit_occurrence_id", "person_id", "visit_concept_id", "visit_start_date", "visit_end_date"),
        *("visit_source_value?", "admitted_from_source_value?"),
    ),
    "condition_occurrence": (
        *("person_id", "condition_concept_id", "condition_start_date"),
        *("visit_occurrence_id?", "condition_source_value?"),
    ),
    "drug_exposure": (
        *("drug_exposure_id", "person_id", "drug_concept_id", "drug_exposure_start_date"),
        *("drug_exposure_end_date?", "drug_source_value?"),
    ),
    "device_exposure": (
        *("person_id", "device_concept_id", "device_exposure_start_date"),
        *("device_source_value?",),
    ),
    "measurement": (
        *("measurement_id", "person_id", "measurement_concept_id", "measurement_date", "value_as_number"),
        *("operator_concept_id?", "unit_concept_id?", "measurement_source_value?", "unit_source_value?"),
    ),
    "observation": (
        *("observation_id", "person_id", "observation_concept_id", "observation_date"),
        *("value_as_number?", "value_as_string?", "observation_source_value?"),
    ),
    "death": ("person_id", "death_date"),
    "cost": ("cost_event_id", "cost_domain_id", "total_cost"),
}
