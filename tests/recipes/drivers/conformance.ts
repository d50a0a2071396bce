// The public members of Vapi's class, static ones included, and its constructor: the sandbox's class
// has them all. Methods that return the object itself return the sandbox's.
import Real from "@vapi-ai/web";
import Sandbox from "../vapi.js";

type Members = {
  [Name in keyof Real]: Real[Name] extends (...values: infer Values) => Real ? (...values: Values) => Members : Real[Name];
};

export const create: new (...options: ConstructorParameters<typeof Real>) => Members = Sandbox;
export const statics: Pick<typeof Real, "runNetworkTestsStandalone"> = Sandbox;
