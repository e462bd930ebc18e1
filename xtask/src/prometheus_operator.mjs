// Checks the JSON document of a file, of a kind of the Prometheus operator, against the operator's schema.
import { readFileSync } from "node:fs";
import * as kinds from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const document = JSON.parse(readFileSync(process.argv[2]));
new kinds[document.kind](document).validate();
