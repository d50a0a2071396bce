// The SDK is CommonJS: depending on who loads it, its class comes bare or as `default`.
import sdk from "@vapi-ai/web";

export default sdk.default ?? sdk;
