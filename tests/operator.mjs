// Judges objects of the Prometheus Operator by the models that a package generates from the operator's own types: takes a list
// of them as JSON, prints what is wrong with each, `null` where nothing is. The folder of the package is the one argument.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const judged = JSON.parse(readFileSync(0, "utf8")).map(async (object) => {
  const file = `${process.argv[2]}/${object.apiVersion}/${object.kind}.js`;
  const { [object.kind]: Model } = await import(pathToFileURL(file));
  try {
    new Model(object).validate();
    return null;
  } catch (error) {
    return error.message;
  }
});
console.log(JSON.stringify(await Promise.all(judged)));
